"""The commands for jobs, in processes of their own, against a service as an operator starts it."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from kdmri.bundles.store import Bundle
from kdmri.formats.kspace import fastmri
from kdmri.phantoms import phantom, scan
from tests.e2e import quick_models
from tests.e2e.serving import KDMRI, PATIENCE, Service, serving


@pytest.fixture(scope="module")
def service(bundles: list[Bundle], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("service")
    environment = {
        "KDMRI_MODELS": str(quick_models.write(bundles, folder / "models")),
        "KDMRI_SPOOL": str(folder / "spool"),
        "KDMRI_SPOOL_SPARE_MB": "0",
        "KDMRI_SHADOW_RATE": "0",
        "KDMRI_PARSERS": "0",
        "KDMRI_BACKEND": "onnxruntime",
    }
    with serving(folder, **environment) as running:
        yield running


def kdmri(service: Service, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [KDMRI, *arguments, "--url", service.address]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two scans, one of them a level deeper, and a file that is none."""
    (tmp_path / "in" / "deep").mkdir(parents=True)
    fastmri.write(tmp_path / "in" / "a.h5", scan(phantom(48, 64), acceleration=4))
    fastmri.write(tmp_path / "in" / "deep" / "b.h5", scan(phantom(64, 48), acceleration=4))
    (tmp_path / "in" / "bad.h5").write_bytes(b"no scan")
    return tmp_path / "in"


def test_submit_then_fetch(service: Service, folder: Path, tmp_path: Path) -> None:
    submitted = kdmri(service, "submit", folder / "a.h5")
    assert submitted.returncode == 0, submitted.stderr
    job = submitted.stdout.strip()
    fetched = kdmri(service, "fetch", job, "-o", tmp_path / "images.h5")
    assert fetched.returncode == 0, fetched.stderr
    assert fetched.stderr.splitlines()[-1].startswith("1 slices ->")
    with h5py.File(tmp_path / "images.h5") as file:
        assert file["reconstruction"].shape == (1, 48, 64)
    assert '"state": "done"' in kdmri(service, "status", job).stdout
    # Of a job that has ended, the data are erased.
    assert kdmri(service, "cancel", job).stdout == "done\n"
    gone = kdmri(service, "fetch", job, "-o", tmp_path / "again.h5")
    assert (gone.returncode, gone.stderr.count("\n")) == (1, 1)
    assert "erased" in gone.stderr


def test_a_folder_goes_on_where_it_was_and_a_bad_file_costs_one_line(
    service: Service, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    first = kdmri(service, "reconstruct-many", folder, "-o", out)
    assert first.returncode == 1
    assert [line for line in first.stderr.splitlines() if line.startswith("bad.h5: expected")] != []
    assert "2 reconstructed, 0 were there, 1 failed" in first.stderr
    assert {path.relative_to(out) for path in out.rglob("*.h5")} == {Path("a.h5"), Path("deep/b.h5")}
    with h5py.File(out / "a.h5") as file:
        image = np.asarray(file["reconstruction"])
    (out / "a.h5").unlink()
    stamp = (out / "deep" / "b.h5").stat().st_mtime_ns
    (folder / "bad.h5").unlink()
    second = kdmri(service, "reconstruct-many", folder, "-o", out)
    assert second.returncode == 0, second.stderr
    assert "1 reconstructed, 1 were there, 0 failed" in second.stderr
    assert (out / "deep" / "b.h5").stat().st_mtime_ns == stamp
    with h5py.File(out / "a.h5") as file:
        np.testing.assert_array_equal(np.asarray(file["reconstruction"]), image)


def test_no_service(service: Service, folder: Path) -> None:
    command = [KDMRI, "submit", folder / "a.h5", "--url", "http://127.0.0.1:9"]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert refused.returncode == 1
    assert "expected a service at http://127.0.0.1:9" in refused.stderr
