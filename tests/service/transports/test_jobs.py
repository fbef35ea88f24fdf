"""Jobs over HTTP on a running service: accepted, run, fetched, repeated, cancelled, erased, and each key's own."""

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import httpx2
import numpy as np
import pytest
from fastapi.testclient import TestClient
from kdmri_service.app import create_app
from kdmri_service.auth.keys import add_key
from kdmri_service.auth.principals import Scope
from kdmri_service.jobs.spool import Spool
from kdmri_service.settings import Settings

from kdmri.bundles.store import Bundle
from kdmri.formats.kspace import fastmri
from kdmri.phantoms import phantom, scan
from tests.e2e import quick_models

HDF5 = {"content-type": "application/x-hdf5"}
FINAL = ("done", "failed", "cancelled")


@pytest.fixture(scope="module")
def models(bundles: list[Bundle], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return quick_models.write(bundles, tmp_path_factory.mktemp("models"))


@pytest.fixture
def settings(models: Path, tmp_path: Path) -> Settings:
    return Settings(
        models=models, spool=tmp_path / "spool", shadow_rate=0, backend="onnxruntime", parsers=0, spool_spare_mb=0
    )


@pytest.fixture
def service(settings: Settings) -> Iterator[TestClient]:
    with TestClient(create_app(settings), raise_server_exceptions=False) as running:
        yield running


@pytest.fixture
def halted(settings: Settings) -> Iterator[TestClient]:
    """A service that accepts jobs and runs none, as one that is about to end."""
    app = create_app(settings)
    with TestClient(app, raise_server_exceptions=False) as running:
        app.state.service.jobs._runner._may_claim = lambda: False
        yield running


def follow(service: TestClient, job: str, **headers: str) -> list[dict[str, object]]:
    """Return every status that the service told of a job until its end."""
    events = service.get(f"/jobs/{job}/events", headers=headers)
    assert events.headers["content-type"].startswith("text/event-stream")
    return [json.loads(line.removeprefix("data: ")) for line in events.text.splitlines() if line.startswith("data: ")]


def test_a_job_gives_the_answer_of_the_operations_own_route(service: TestClient, kspace_file: Path) -> None:
    content = kspace_file.read_bytes()
    accepted = service.post("/jobs?operation=reconstruct&role=teacher", content=content, headers=HDF5)
    assert accepted.status_code == 202
    job = accepted.json()
    assert accepted.headers["location"] == f"/jobs/{job['id']}"
    last = follow(service, job["id"])[-1]
    assert (last["state"], last["slices_done"], last["slices"], last["attempt"]) == ("done", 2, 2, 1)
    later = service.get(f"/jobs/{job['id']}/result")
    now = service.post("/reconstruct?role=teacher", content=content, headers=HDF5)
    assert later.headers["kdmri-model"] == now.headers["kdmri-model"] == last["model"]
    with h5py.File(io.BytesIO(later.content)) as a, h5py.File(io.BytesIO(now.content)) as b:
        np.testing.assert_array_equal(a["reconstruction"], b["reconstruction"])


def test_a_request_may_become_a_job(service: TestClient, kspace_file: Path) -> None:
    headers = {**HDF5, "prefer": "handling=lenient, respond-async;foo", "accept": "application/json"}
    accepted = service.post("/reconstruct", content=kspace_file.read_bytes(), headers=headers)
    assert accepted.status_code == 202
    assert accepted.headers["preference-applied"] == "respond-async"
    assert follow(service, accepted.json()["id"])[-1]["state"] == "done"
    assert service.get(accepted.headers["location"] + "/result").json()["shape"] == [2, 64, 80]


def test_the_preference_is_ignored_where_no_jobs_are_kept(client: TestClient, kspace_file: Path) -> None:
    headers = {**HDF5, "prefer": "respond-async"}
    assert client.post("/reconstruct", content=kspace_file.read_bytes(), headers=headers).status_code == 200
    refused = client.post("/jobs?operation=reconstruct", content=b"", headers=HDF5)
    assert refused.status_code == 501
    assert refused.json()["type"] == "urn:kdmri:problem:jobs-disabled"


def test_one_content_and_one_key_are_one_job(halted: TestClient, kspace_file: Path) -> None:
    content = kspace_file.read_bytes()

    def submit(query: str = "", body: bytes = content, **headers: str) -> httpx2.Response:
        return halted.post(f"/jobs?operation=reconstruct{query}", content=body, headers={**HDF5, **headers})

    first = submit().json()["id"]
    assert submit().json()["id"] == first
    assert submit("&role=teacher").json()["id"] != first
    keyed = submit(**{"idempotency-key": "mine"}).json()["id"]
    assert submit(**{"idempotency-key": "mine"}).json()["id"] == keyed != first
    conflict = submit("&coils=3", **{"idempotency-key": "mine"})
    assert conflict.status_code == 422
    assert conflict.json()["type"] == "urn:kdmri:problem:different-job"


def test_waiting_jobs_tell_their_position_and_can_be_cancelled(halted: TestClient, tmp_path: Path) -> None:
    jobs = []
    for rows in (32, 34, 36):
        fastmri.write(tmp_path / "scan.h5", scan(phantom(rows, 32), acceleration=2))
        content = (tmp_path / "scan.h5").read_bytes()
        jobs.append(halted.post("/jobs?operation=reconstruct", content=content, headers=HDF5).json())
    assert [job["position"] for job in jobs] == [0, 1, 2]
    early = halted.get(f"/jobs/{jobs[0]['id']}/result")
    assert early.status_code == 409
    assert halted.delete(f"/jobs/{jobs[0]['id']}").json()["state"] == "cancelled"
    assert halted.get(f"/jobs/{jobs[2]['id']}").json()["position"] == 1
    assert halted.get(f"/jobs/{jobs[0]['id']}/result").status_code == 410


def test_a_running_job_is_cancelled_within_one_batch(settings: Settings, tmp_path: Path) -> None:
    fastmri.write(tmp_path / "scan.h5", scan(phantom(256, 256).repeat(64, axis=0), acceleration=4))
    slow = settings.model_copy(update={"models": Settings().models})
    with TestClient(create_app(slow)) as service:
        content = (tmp_path / "scan.h5").read_bytes()
        job = service.post("/jobs?operation=reconstruct&role=teacher", content=content, headers=HDF5).json()["id"]
        while service.get(f"/jobs/{job}").json()["state"] == "queued":
            pass
        service.delete(f"/jobs/{job}")
        last = follow(service, job)[-1]
    assert last["state"] == "cancelled"
    assert last["slices_done"] < 64


CASES = {
    "no such operation": ("operation=sharpen", b"", HDF5, 400, "'sharpen'"),
    "no operation": ("", b"", HDF5, 400, "operation"),
    "no such parameter": ("operation=reconstruct&scale=2", b"", HDF5, 400, "'scale'"),
    "no number": ("operation=super-resolve&scale=two", b"", HDF5, 400, "scale"),
    "no such model": ("operation=reconstruct&model=gpt", b"", HDF5, 404, "gpt"),
    "other type": ("operation=reconstruct", b"", {"content-type": "text/html"}, 415, "text/html"),
    "no such answer": ("operation=reconstruct", b"", {**HDF5, "accept": "text/html"}, 406, "text/html"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_no_job_can_be_made_of_is_refused_at_once(halted: TestClient, case: str) -> None:
    query, body, headers, status, word = CASES[case]
    answer = halted.post(f"/jobs?{query}", content=body, headers=headers)
    assert answer.status_code == status
    assert word in answer.json()["detail"]


def test_an_unreadable_input_fails_with_its_problem(service: TestClient) -> None:
    job = service.post("/jobs?operation=reconstruct", content=b"hello", headers=HDF5).json()["id"]
    last = follow(service, job)[-1]
    assert (last["state"], last["attempt"]) == ("failed", 1)
    assert last["problem"]["type"] == "urn:kdmri:problem:unreadable-k-space"
    assert last["problem"]["stage"] == "parse"
    answer = service.get(f"/jobs/{job}/result")
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_full_disk_takes_no_job(settings: Settings, kspace_file: Path) -> None:
    with TestClient(create_app(settings.model_copy(update={"spool_spare_mb": 2**40}))) as full:
        answer = full.post("/jobs?operation=reconstruct", content=kspace_file.read_bytes(), headers=HDF5)
        assert answer.status_code == 507
        assert full.post("/reconstruct", content=kspace_file.read_bytes(), headers=HDF5).status_code == 200


def test_jobs_survive_the_service(settings: Settings, kspace_file: Path) -> None:
    app = create_app(settings)
    with TestClient(app) as first:
        app.state.service.jobs._runner._may_claim = lambda: False
        headers = {**HDF5, "accept": "application/json"}
        job = first.post("/jobs?operation=reconstruct", content=kspace_file.read_bytes(), headers=headers).json()["id"]
    with TestClient(create_app(settings)) as second:
        assert follow(second, job)[-1]["state"] == "done"
        assert second.get(f"/jobs/{job}/result").json()["role"] == "student"


def test_each_key_sees_its_own_jobs(settings: Settings, kspace_file: Path, tmp_path: Path) -> None:
    names = {"one": Scope.infer, "two": Scope.infer, "chief": Scope.admin}
    keys = {name: {"x-api-key": add_key(tmp_path / "keys", name, [scope])} for name, scope in names.items()}
    with TestClient(create_app(settings.model_copy(update={"keys": tmp_path / "keys"}))) as service:
        content = kspace_file.read_bytes()

        def submit(name: str) -> str:
            headers = {**HDF5, **keys[name]}
            return str(service.post("/jobs?operation=reconstruct", content=content, headers=headers).json()["id"])

        job = submit("one")
        follow(service, job, **keys["one"])
        calls: list[Callable[[str], httpx2.Response]] = [
            lambda name: service.get(f"/jobs/{job}", headers=keys[name]),
            lambda name: service.get(f"/jobs/{job}/result", headers=keys[name]),
            lambda name: service.get(f"/jobs/{job}/events", headers=keys[name]),
        ]
        for call in (*calls, lambda name: service.delete(f"/jobs/{job}", headers=keys[name])):
            assert call("two").status_code == 404
        for call in calls:
            assert call("one").status_code == call("chief").status_code == 200
        assert submit("one") == job
        assert submit("two") != job


def test_nothing_of_a_patient_is_left_after_erasure(
    settings: Settings, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The planted name is in the input and in the answer, so that both have to be gone, and the keys with them."""
    from tests.formats.kspace import test_description as description
    from tests.formats.kspace.mrd_files import MrdFile

    file = MrdFile.of(scan(phantom(16, 16)))
    file.xml = description.FULL.replace("Müller", "Plantedname")
    content = file.save(tmp_path / "scan.h5").read_bytes()
    assert b"Plantedname" in content
    app = create_app(settings)
    with TestClient(app) as service:
        headers = {**HDF5, "accept": "application/dicom"}
        job = service.post("/jobs?operation=reconstruct", content=content, headers=headers).json()["id"]
        assert follow(service, job)[-1]["state"] == "done"
        key = app.state.service.jobs._store.get(job).key
        assert b"Plantedname" in service.get(f"/jobs/{job}/result").content
        erased = service.delete(f"/jobs/{job}").json()
        assert erased["erased"] is not None
        assert service.get(f"/jobs/{job}/result").status_code == 410
        metrics = service.get("/metrics").content
        files = {path: path.read_bytes() for path in (tmp_path / "spool").rglob("*") if path.is_file()}
    assert not list((tmp_path / "spool" / "blobs").iterdir())
    log = "".join(capfd.readouterr()).encode()
    assert b"job erased" in log
    for place in (*files.values(), metrics, log):
        assert b"Plantedname" not in place
        assert key not in place


def test_a_lane_outlives_a_disk_that_fails(
    settings: Settings, kspace_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("read-only file system")

    monkeypatch.setattr(Spool, "delete", refuse)
    # One lane: were it to end with the first job, the second would wait for ever.
    with TestClient(create_app(settings.model_copy(update={"inferences": 1}))) as running:
        for role in ("student", "teacher"):
            job = running.post(
                f"/jobs?operation=reconstruct&role={role}", content=kspace_file.read_bytes(), headers=HDF5
            )
            assert follow(running, job.json()["id"])[-1]["state"] == "done"
