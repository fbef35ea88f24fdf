"""The service as a process: started as an operator starts it, driven over HTTP, stopped by a signal."""

import io
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import h5py
import httpx2
import pydicom
import pytest
from pydicom.data import get_testdata_file

from kdmri.formats import fastmri
from tests.scans import phantom, scan

KDMRI = Path(sys.executable).with_name("kdmri")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, subprocess.Popen[bytes], Path]]:
    log = tmp_path_factory.mktemp("service") / "log"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with log.open("wb") as sink:
        process = subprocess.Popen([KDMRI, "serve", "--port", str(port)], stdout=sink, stderr=subprocess.STDOUT)
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None:
            try:
                if httpx2.get(f"{address}/readyz").status_code == 200:
                    break
            except httpx2.TransportError:
                time.sleep(0.1)
        yield address, process, log
    finally:
        process.kill()
        process.wait()


def test_the_main_job(running: tuple[str, subprocess.Popen[bytes], Path], tmp_path: Path) -> None:
    address, process, log = running
    fastmri.write(tmp_path / "scan.h5", scan(phantom(96, 96), acceleration=4))
    mr = Path(get_testdata_file("MR_small.dcm"))
    for role in ("student", "teacher"):
        files = {"file": (tmp_path / "scan.h5").read_bytes()}
        answer = httpx2.post(f"{address}/reconstruct?role={role}", files=files, timeout=60)
        assert h5py.File(io.BytesIO(answer.content))["reconstruction"].shape == (1, 96, 96)
        headers = {"content-type": "application/dicom"}
        answer = httpx2.post(
            f"{address}/super-resolve?role={role}", content=mr.read_bytes(), headers=headers, timeout=60
        )
        assert pydicom.dcmread(io.BytesIO(answer.content)).Rows == 128
    exported = httpx2.get(f"{address}/metrics").text
    for operation in ("reconstruct", "super_resolve"):
        for role in ("student", "teacher"):
            assert f'kdmri_slice_duration_seconds_count{{operation="{operation}",role="{role}"}} 1.0' in exported
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) in (0, -signal.SIGTERM)
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
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
