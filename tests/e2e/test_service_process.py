"""The service as a process: started as an operator starts it, driven over HTTP, stopped by a signal."""

import io
import json
import signal
import subprocess
from pathlib import Path

import h5py
import httpx2
import pydicom
from pydicom.data import get_testdata_file

from kdmri.formats import fastmri
from tests.e2e.serving import KDMRI, PATIENCE, serving
from tests.scans import phantom, scan


def test_the_main_job(tmp_path: Path) -> None:
    fastmri.write(tmp_path / "scan.h5", scan(phantom(96, 96), acceleration=4))
    mr = Path(get_testdata_file("MR_small.dcm")).read_bytes()
    kind = {"content-type": "application/dicom"}
    with serving(tmp_path) as service, httpx2.Client(base_url=service.address, timeout=PATIENCE) as client:
        for role in ("student", "teacher"):
            answer = client.post(f"/reconstruct?role={role}", files={"file": (tmp_path / "scan.h5").read_bytes()})
            assert h5py.File(io.BytesIO(answer.content))["reconstruction"].shape == (1, 96, 96)
            answer = client.post(f"/super-resolve?role={role}", content=mr, headers=kind)
            assert pydicom.dcmread(io.BytesIO(answer.content)).Rows == 128
        exported = client.get("/metrics").text
        for operation in ("reconstruct", "super_resolve"):
            for role in ("student", "teacher"):
                assert f'kdmri_slice_duration_seconds_count{{operation="{operation}",role="{role}"}} 1.0' in exported
        assert service.stop() in (0, -signal.SIGTERM)
    lines = [json.loads(line) for line in service.log.read_text().splitlines()]
    assert sum(line["event"] == "answered" for line in lines) == 4


def test_a_service_without_models_says_so_and_ends(tmp_path: Path) -> None:
    done = subprocess.run(
        [KDMRI, "serve", "--port", "0"],
        env={"PATH": "/usr/bin", "KDMRI_MODELS": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode != 0
    assert "expected at least one model folder" in done.stdout + done.stderr
