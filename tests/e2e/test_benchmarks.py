"""`make bench` on tiny inputs: it runs, and what it writes has every row and every engine. Its figures mean nothing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from numpy.testing import assert_allclose

from kdmri.bundles.store import Bundle, choose
from kdmri.phantoms import phantom, scan
from kdmri.runtime import Reconstructor
from kdmri.runtime.model import load_model
from tools.benchmarks import eager

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_what_bundles_are_measured_against_does_the_same(bundles: list[Bundle], role: str) -> None:
    bundle = choose(bundles, "reconstruction", role=role)
    measured = scan(phantom(64, 48), coils=3, acceleration=3)
    ours, theirs = (
        Reconstructor(model).reconstruct(measured).pixels for model in (load_model(bundle), eager.model(bundle, 1))
    )
    assert_allclose(theirs, ours, atol=1e-4 * ours.max())


def test_kernels_run() -> None:
    """Each once, untimed."""
    command = [sys.executable, "-m", "pytest", "-q", "tools/benchmarks/kernels.py", "--benchmark-disable"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_benchmark_writes_its_page_and_keeps_the_text_around(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the extra kdmri[train] is not installed")
    page = tmp_path / "performance.md"
    page.write_text("# Speed\n\nwhy\n<!-- measured: begin -->\nold figures\n<!-- measured: end -->\nbecause\n")
    command = [sys.executable, "-m", "tools.benchmarks", "--quick", "--threads", "1", "--output", tmp_path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    text = page.read_text()
    assert text.startswith("# Speed\n\nwhy\n")
    assert text.endswith("because\n")
    assert "old figures" not in text
    found = json.loads((tmp_path / "performance" / "performance.json").read_text())
    for case in found["cases"].values():
        times = case["milliseconds"]
        for engine in ("PyTorch", "onnxruntime"):
            assert {f"{engine} student", f"{engine} teacher"} <= set(times)
        assert all(0 < time["low"] <= time["median"] <= time["high"] for time in times.values())
    asked, _, _ = text.partition("## Milliseconds")
    for row in ("both on onnxruntime", "GEMM peak", "one client", "batches of 8", "start to ready", "peak memory"):
        assert row in asked
    assert (tmp_path / "performance" / "times.png").stat().st_size > 10_000


def test_reading_is_measured(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "tools.benchmarks.reading",
        "--slices",
        "2",
        "--repeats",
        "2",
        "--folder",
        tmp_path,
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [line.split(":")[0] for line in done.stdout.splitlines()[1:]] == ["clock", "processor"]
    assert list(tmp_path.iterdir()) == []
