from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from kdmri_service.app import create_app
from kdmri_service.settings import Settings

from kdmri.formats.kspace import fastmri
from kdmri.phantoms import phantom, scan


@pytest.fixture(scope="package", autouse=True)
def parse_in_this_process() -> Iterator[None]:
    """Read uploads in the test's process: parser workers take seconds to start, and have tests of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KDMRI_PARSERS", "0")
        yield


@pytest.fixture(scope="session")
def client() -> Iterator[TestClient]:
    """The service with the shipped models in single precision, uploads up to 8 MB; no shadow runs: they would count."""
    settings = Settings(max_upload_mb=8, shadow_rate=0, backend="onnxruntime", parsers=0)
    with TestClient(create_app(settings), raise_server_exceptions=False) as running:
        yield running


@pytest.fixture(scope="session")
def kspace_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two slices of 64 x 80, one coil, undersampled by 4, in fastMRI layout."""
    path = tmp_path_factory.mktemp("kspace") / "scan.h5"
    image = phantom(64, 80).repeat(2, axis=0)
    fastmri.write(path, scan(image, acceleration=4))
    return path
