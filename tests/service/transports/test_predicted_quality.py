import io
import re
from collections.abc import Iterator

import h5py
import pytest
from fastapi.testclient import TestClient
from httpx2 import Response
from kdmri_service.app import create_app
from kdmri_service.settings import Settings

from kdmri.phantoms import phantom, scan

PREDICTED = ("KDMRI-Predicted-Error", "KDMRI-Predicted-PSNR", "KDMRI-Predicted-PSNR-Interval")


def kspace_file(acceleration: float) -> bytes:
    """Return a scan in fastMRI's layout."""
    measured = scan(phantom(96, 96), acceleration=acceleration, noise=0.005)
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["kspace"] = measured.samples[:, 0]
        file["mask"] = measured.mask[0, 0]
    return buffer.getvalue()


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    """A service with the models of the repository."""
    with TestClient(create_app(Settings(shadow_rate=0, backend="onnxruntime", parsers=0))) as running:
        yield running


def send(client: TestClient, acceleration: float, accept: str = "application/json", **query: str) -> Response:
    """Post a scan and return the answer."""
    headers = {"Content-Type": "application/x-hdf5", "Accept": accept}
    return client.post("/reconstruct", content=kspace_file(acceleration), headers=headers, params=query)


def test_answers_above_5x_state_their_predicted_quality(client: TestClient) -> None:
    answer = send(client, 8)
    low, high = map(float, answer.headers["KDMRI-Predicted-PSNR-Interval"].split(", "))
    assert low < float(answer.headers["KDMRI-Predicted-PSNR"]) < high
    figures = answer.json()
    assert figures["predicted_psnr_db"] == pytest.approx(float(answer.headers["KDMRI-Predicted-PSNR"]), abs=0.06)
    assert "predict" in figures["stage_milliseconds"]
    count = r'^kdmri_quality_predicted_psnr_db_count\{operation="reconstruct",role="student"\} (\S+)$'
    (number,) = re.findall(count, client.get("/metrics").text, re.MULTILINE)
    assert float(number) >= 1


def test_the_prediction_does_not_change_the_image(client: TestClient) -> None:
    figures = [send(client, 8, predict=predict).json() for predict in ("true", "false")]
    assert figures[0]["residual"] == figures[1]["residual"]
    assert figures[0]["intensity"] == figures[1]["intensity"]


@pytest.mark.parametrize(("acceleration", "query"), [(4, {}), (8, {"predict": "false"})])
def test_no_run_is_spent_on_answers_that_need_no_prediction(
    client: TestClient, acceleration: float, query: dict[str, str]
) -> None:
    answer = send(client, acceleration, **query)
    assert not set(PREDICTED) & set(answer.headers)
    assert "predict" not in answer.json()["stage_milliseconds"]


def test_a_request_may_ask_for_a_prediction(client: TestClient) -> None:
    assert all(name in send(client, 4, predict="true").headers for name in PREDICTED)


def test_one_scan_has_one_prediction(client: TestClient) -> None:
    first, second = (send(client, 8).headers["KDMRI-Predicted-PSNR"] for _ in range(2))
    assert first == second


@pytest.mark.parametrize(("role", "acceleration", "reason"), [("teacher", 8, "calibration"), ("student", 1, "too few")])
def test_a_note_says_why_there_is_no_prediction(
    client: TestClient, role: str, acceleration: float, reason: str
) -> None:
    answer = send(client, acceleration, role=role, predict="true")
    assert answer.status_code == 200
    assert f"no predicted quality, {'the model has no' if role == 'teacher' else ''}" in answer.headers["KDMRI-Notes"]
    assert reason in answer.headers["KDMRI-Notes"]


def test_other_values_are_refused(client: TestClient) -> None:
    assert send(client, 8, predict="perhaps").status_code == 400


def test_an_answer_that_is_mostly_invented_says_so(client: TestClient) -> None:
    """At 10x hardly anything is measured outside the centre."""
    warning = send(client, 10).headers["KDMRI-Warning"]
    assert "fine detail is mostly invented" in warning
