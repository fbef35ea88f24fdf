"""Jobs on a service that is killed and stopped: none is lost, none is done twice, and a zombie commits nothing."""

import io
import os
import random
import signal
import sqlite3
from pathlib import Path

import h5py
import httpx2
import numpy as np
import pytest
from kdmri_service.settings import Settings

from kdmri.bundles.store import Bundle
from kdmri.formats.kspace import fastmri
from kdmri.phantoms import phantom, scan
from tests.e2e import quick_models
from tests.e2e.serving import PATIENCE, Service, serving, until

HDF5 = {"content-type": "application/x-hdf5"}


@pytest.fixture(scope="module")
def models(bundles: list[Bundle], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return quick_models.write(bundles, tmp_path_factory.mktemp("models"))


def settings(models: Path, spool: Path, **more: str) -> dict[str, str]:
    return {
        "KDMRI_MODELS": str(models),
        "KDMRI_SPOOL": str(spool),
        "KDMRI_SPOOL_SPARE_MB": "0",
        "KDMRI_LEASE_SECONDS": "2",
        "KDMRI_SHADOW_RATE": "0",
        "KDMRI_PARSERS": "0",
        "KDMRI_BACKEND": "onnxruntime",
        **more,
    }


def content(folder: Path, *, rows: int = 64, slices: int = 1) -> bytes:
    """Return an undersampled scan in fastMRI layout."""
    fastmri.write(folder / "scan.h5", scan(phantom(rows, 64).repeat(slices, axis=0), acceleration=4))
    return (folder / "scan.h5").read_bytes()


def submit(service: Service, body: bytes) -> str:
    answer = httpx2.post(f"{service.address}/jobs?operation=reconstruct", content=body, headers=HDF5, timeout=PATIENCE)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def status(service: Service, job: str) -> dict[str, object]:
    return dict(httpx2.get(f"{service.address}/jobs/{job}", timeout=PATIENCE).json())


def image(answer: httpx2.Response) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    with h5py.File(io.BytesIO(answer.content)) as file:
        return np.asarray(file["reconstruction"])


def wait_for(service: Service, job: str) -> None:
    """Wait until a job has begun."""
    until(lambda: status(service, job)["state"] != "queued")


def kill(service: Service) -> None:
    service.process.send_signal(signal.SIGKILL)
    service.process.wait()


def test_jobs_of_a_service_that_is_killed_again_and_again_are_each_done_once(models: Path, tmp_path: Path) -> None:
    bodies = [content(tmp_path, rows=rows) for rows in range(48, 72, 2)]
    spool, chance = tmp_path / "spool", random.Random(18)
    jobs: list[str] = []
    for _ in range(3):
        with serving(tmp_path, **settings(models, spool)) as service:
            # Repeated submissions are the jobs that are there already.
            jobs = [submit(service, body) for body in bodies]
            wait_for(service, chance.choice(jobs))
            kill(service)
    with serving(tmp_path, **settings(models, spool)) as service:
        assert [submit(service, body) for body in bodies] == jobs
        until(lambda: all(status(service, job)["state"] in ("done", "failed") for job in jobs))
        for job, body in zip(jobs, bodies, strict=True):
            later = image(httpx2.get(f"{service.address}/jobs/{job}/result", timeout=PATIENCE))
            now = image(httpx2.post(f"{service.address}/reconstruct", content=body, headers=HDF5, timeout=PATIENCE))
            np.testing.assert_array_equal(later, now)
    with sqlite3.connect(spool / "jobs.sqlite") as database:
        ends = database.execute("SELECT job, event FROM outbox").fetchall()
        done = database.execute("SELECT job FROM attempts WHERE outcome = 'done'").fetchall()
    assert sorted(ends) == sorted((job, "done") for job in set(jobs))
    assert sorted(done) == sorted((job,) for job in set(jobs))
    # Inputs are gone, and each job has one result.
    assert len(list((spool / "blobs").iterdir())) == len(set(jobs))


def test_a_process_that_was_stopped_beyond_its_lease_commits_nothing(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    body = content(tmp_path, rows=256, slices=200)
    logs = [tmp_path / name for name in ("a", "b")]
    for folder in logs:
        folder.mkdir()
    shipped = settings(Settings().models, spool)
    with serving(logs[0], **shipped) as zombie:
        job = submit(zombie, body)
        until(lambda: status(zombie, job)["stage"] in ("denoise", "data_consistency"))
        os.kill(zombie.process.pid, signal.SIGSTOP)
        try:
            with serving(logs[1], **shipped) as heir:
                until(lambda: status(heir, job)["attempt"] == 2)
                os.kill(zombie.process.pid, signal.SIGCONT)
                until(lambda: status(heir, job)["state"] == "done")
                until(lambda: status(zombie, job)["state"] == "done")
        finally:
            os.kill(zombie.process.pid, signal.SIGCONT)
    with sqlite3.connect(spool / "jobs.sqlite") as database:
        attempts = database.execute("SELECT number, outcome FROM attempts ORDER BY number").fetchall()
        ends = database.execute("SELECT event FROM outbox").fetchall()
    assert attempts == [(1, "lost"), (2, "done")]
    assert ends == [("done",)]
