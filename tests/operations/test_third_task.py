"""A new task is one module and one network: the service then routes, batches, measures, compares and documents it."""

import io
from collections.abc import Iterator

import h5py
import numpy as np
import pytest
from fastapi.testclient import TestClient
from kdmri_service.app import create_app
from kdmri_service.settings import Settings
from numpy.testing import assert_allclose

from kdmri.bundles.store import Bundle
from kdmri.errors import CorruptBundle
from kdmri.operations import OPERATIONS
from kdmri.operations.media_types import BINARY, HDF5, JSON
from tests.operations.denoising import Denoise, write_models
from tests.service.shadow.test_shadow import caught_up
from tests.service.transports.test_status import value

NOISY = np.random.default_rng(0).normal(10, 1, (2, 16, 24)).astype(np.float32)


@pytest.fixture(scope="module")
def models(bundles: list[Bundle], tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = write_models(bundles[0], tmp_path_factory.mktemp("models"))
    return Settings(models=folder, backend="onnxruntime", shadow_rate=1)


@pytest.fixture(scope="module")
def denoising(models: Settings) -> Iterator[TestClient]:
    """The service with a third task."""
    with TestClient(create_app(models, (*OPERATIONS, Denoise))) as client:
        yield client


def upload(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, pixels)
    return buffer.getvalue()


def denoise(client: TestClient, query: str = "", accept: str = HDF5) -> bytes:
    headers = {"content-type": BINARY, "accept": accept}
    answer = client.post(f"/denoise{query}", content=upload(NOISY), headers=headers)
    answer.raise_for_status()
    return answer.content


def test_the_task_is_served_compared_and_counted(denoising: TestClient) -> None:
    labels = {"operation": "denoise", "role": "student", "status": "200"}
    before = value(denoising, "kdmri_requests_total", **labels)
    once, twice = (
        h5py.File(io.BytesIO(denoise(denoising, query)))["reconstruction"][()] for query in ("", "?passes=2")
    )
    assert np.std(twice) < np.std(once) < np.std(NOISY)
    # The inner pixels of a mean over 3 x 3 are exactly that.
    assert_allclose(once[0, 5, 5], NOISY[0, 4:7, 4:7].mean(), rtol=1e-5)
    caught_up(denoising)
    assert value(denoising, "kdmri_requests_total", **labels) == before + 2
    assert value(denoising, "kdmri_shadow_psnr_db_count", operation="denoise") >= 1


def test_both_roles_are_compared(denoising: TestClient) -> None:
    with h5py.File(io.BytesIO(denoise(denoising, "?role=both"))) as file:
        assert_allclose(file["difference"], file["student"][()] - file["teacher"][()])
        assert file["student"].attrs["model"] == "mean-student@1.0.0"


def test_the_description_lists_its_parameters(denoising: TestClient) -> None:
    described = denoising.get("/openapi.json").json()["paths"]["/denoise"]["post"]
    assert {parameter["name"] for parameter in described["parameters"]} >= {"role", "model", "passes"}
    assert described["responses"]["200"]["content"].keys() >= {HDF5, JSON}


def test_what_it_can_not_read_is_its_own_problem(denoising: TestClient) -> None:
    answer = denoising.post("/denoise", content=b"no array", headers={"content-type": BINARY})
    assert (answer.status_code, answer.json()["detail"]) == (422, "expected a NumPy array, got something else")


def test_models_of_a_task_that_no_operation_has_are_refused(models: Settings) -> None:
    with (
        pytest.raises(CorruptBundle, match="expected the task reconstruction or super-resolution, got denoising"),
        TestClient(create_app(models)),
    ):
        pass
