"""The service on PostgreSQL: a database that goes away costs a 503 and no job."""

import io
from pathlib import Path

import h5py
from fastapi.testclient import TestClient
from kdmri_service.app import create_app
from kdmri_service.settings import Settings
from pydantic import SecretStr

from kdmri.bundles.store import Bundle
from tests.e2e import quick_models
from tests.e2e.serving import until
from tests.service.jobs.conftest import Server

HDF5 = {"content-type": "application/x-hdf5"}


def test_jobs_wait_for_a_database_that_is_away(
    postgresql: Server, bundles: list[Bundle], kspace_file: Path, tmp_path: Path
) -> None:
    settings = Settings(
        models=quick_models.write(bundles, tmp_path / "models"),
        spool=tmp_path / "spool",
        database=SecretStr(postgresql.create()),
        spool_spare_mb=0,
        shadow_rate=0,
        backend="onnxruntime",
        parsers=0,
    )
    content = kspace_file.read_bytes()
    with TestClient(create_app(settings)) as service:
        job = service.post("/jobs?operation=reconstruct", content=content, headers=HDF5).json()["id"]
        postgresql.stop()
        try:
            refused = service.post("/jobs?operation=reconstruct", content=content, headers=HDF5)
            assert refused.status_code == 503
            assert refused.headers["retry-after"]
            assert refused.json()["type"] == "urn:kdmri:problem:store-unavailable"
            # Requests without a job need no database.
            assert service.post("/reconstruct", content=content, headers=HDF5).status_code == 200
        finally:
            postgresql.start()
        assert service.post("/jobs?operation=reconstruct", content=content, headers=HDF5).json()["id"] == job
        until(lambda: service.get(f"/jobs/{job}").json()["state"] == "done")
        with h5py.File(io.BytesIO(service.get(f"/jobs/{job}/result").content)) as file:
            assert file["reconstruction"].shape == (2, 64, 80)
