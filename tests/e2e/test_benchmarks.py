"""`make bench` on tiny inputs: it runs, and what it writes has every row and every engine. Its figures mean nothing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_the_benchmark_writes_its_page_and_keeps_the_text_around(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the extra kdmri[train] is not installed")
    page = tmp_path / "performance.md"
    page.write_text("# Speed\n\nwhy\n<!-- measured: begin -->\nold figures\n<!-- measured: end -->\nbecause\n")
    command = [sys.executable, "-m", "benchmarks", "--quick", "--threads", "1", "--output", tmp_path]
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
    for row in ("same back end", "GEMM peak", "one client", "throughput", "start to ready", "peak memory"):
        assert row in asked
    assert (tmp_path / "performance" / "times.png").stat().st_size > 10_000
