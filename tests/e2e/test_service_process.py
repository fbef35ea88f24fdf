"""The service as a process: started as an operator starts it, driven over HTTP, stopped by a signal."""

import io
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import h5py
import httpx2
import pydicom
import pytest
from pydicom.data import get_testdata_file

from kdmri.formats.kspace import fastmri
from kdmri.phantoms import phantom, scan
from tests.e2e.serving import KDMRI, PATIENCE, serving, until


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
        assert service.stop() == 0
    lines = [json.loads(line) for line in service.log.read_text().splitlines()]
    assert sum(line["event"] == "answered" for line in lines) == 4


def children(process: int) -> list[int]:
    """Processes that a process has started and that live, by proc(5)."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, parent, *_ = stat.read_text().rpartition(")")[2].split()
            if int(parent) == process and state != "Z":
                found.append(int(stat.parent.name))
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a stopped process with the one that started it")
def test_a_service_that_is_killed_leaves_no_shadow_behind(tmp_path: Path) -> None:
    mr = Path(get_testdata_file("MR_small.dcm")).read_bytes()
    with serving(tmp_path, KDMRI_SHADOW_RATE="1") as service:
        kind = {"content-type": "application/dicom"}
        httpx2.post(f"{service.address}/super-resolve", content=mr, headers=kind, timeout=PATIENCE)
        until(lambda: "shadow compared" in service.log.read_text())
        (*_, shadow) = sorted(children(service.process.pid))
        os.kill(shadow, signal.SIGSTOP)
        service.process.kill()
        service.process.wait()
        until(lambda: not Path(f"/proc/{shadow}").exists() or "State:\tZ" in Path(f"/proc/{shadow}/status").read_text())


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
