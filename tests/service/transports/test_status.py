import asyncio
import json
import re
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from fastapi.testclient import TestClient
from kdmri_service.engine.scheduler import Scheduler
from kdmri_service.errors import MissingTraces, Overloaded
from kdmri_service.observability import metrics, traces
from kdmri_service.observability.observation import Observation
from kdmri_service.transports.http.negotiation import negotiate
from kdmri_service.transports.http.upload import media_type
from prometheus_client.parser import text_string_to_metric_families

from kdmri.errors import NotAcceptable


def value(client: TestClient, name: str, **labels: str) -> float:
    """The sum of a sample over all label sets that hold the given ones."""
    families = text_string_to_metric_families(client.get("/metrics").text)
    samples = [s for family in families for s in family.samples if s.name == name]
    return sum(s.value for s in samples if labels.items() <= s.labels.items())


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_a_request_is_counted_and_timed_by_stage(client: TestClient, kspace_file: Path, role: str) -> None:
    labels = {"operation": "reconstruct", "role": role}
    names = {
        "kdmri_requests_total": {"status": "200"},
        "kdmri_request_duration_seconds_count": {},
        "kdmri_slice_duration_seconds_count": {},
        **{f"kdmri_stage_duration_seconds_count {s}": {"stage": s} for s in ("parse", "queue", "denoise", "encode")},
    }
    before = {name: value(client, name.split()[0], **labels, **more) for name, more in names.items()}
    slices = value(client, "kdmri_slices_total", **labels)
    client.post(f"/reconstruct?role={role}", files={"file": kspace_file.read_bytes()})
    after = {name: value(client, name.split()[0], **labels, **more) for name, more in names.items()}
    assert after == {name: count + 1 for name, count in before.items()}
    assert value(client, "kdmri_slices_total", **labels) == slices + 2


def test_failures_are_counted_under_their_status(client: TestClient) -> None:
    labels = {"operation": "reconstruct", "role": "unknown", "status": "400"}
    before = value(client, "kdmri_requests_total", **labels)
    client.post("/reconstruct?role=<script>", content=b"")
    assert value(client, "kdmri_requests_total", **labels) == before + 1


def test_models_are_listed_and_exported(client: TestClient) -> None:
    listed = client.get("/models").json()
    assert value(client, "kdmri_model_info") == len(listed)
    for manifest in listed:
        shown = client.get(f"/models/{manifest['name']}@{manifest['version']}")
        assert shown.json() == manifest
        assert client.get(f"/models/{manifest['name']}").json()["name"] == manifest["name"]
    assert client.get("/models/nothing").status_code == 404


def test_health(client: TestClient) -> None:
    assert client.get("/livez").json() == {"status": "alive"}
    assert client.get("/readyz").json()["status"] == "ready"


def test_openapi_names_what_is_answered(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert {
        "/reconstruct",
        "/super-resolve",
        "/models",
        "/models/{name}",
        "/livez",
        "/readyz",
        "/metrics",
    } <= paths.keys()
    assert "application/x-hdf5" in paths["/reconstruct"]["post"]["responses"]["200"]["content"]


OPENMETRICS = "application/openmetrics-text"


@pytest.mark.parametrize(("accept", "kind"), [(f"{OPENMETRICS};version=1.0.0", OPENMETRICS), ("*/*", "text/plain")])
def test_metrics_are_in_the_format_that_they_claim(client: TestClient, accept: str, kind: str) -> None:
    answer = client.get("/metrics", headers={"accept": accept})
    assert answer.headers["content-type"].startswith(kind)
    assert answer.text.endswith("# EOF\n") is (kind == OPENMETRICS)


@pytest.mark.parametrize(("asked", "echoed"), [("abc-1.2_3", True), ("a b", False), ("x" * 65, False), ("", False)])
def test_request_ids(client: TestClient, asked: str, echoed: bool) -> None:
    found = client.get("/livez", headers={"x-request-id": asked}).headers["x-request-id"]
    assert (found == asked) is echoed
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", found)


def test_log_lines_are_json_with_the_request_id(client: TestClient, capsys: pytest.CaptureFixture[str]) -> None:
    client.get("/models", headers={"x-request-id": "line-1"})
    entry = next(json.loads(line) for line in capsys.readouterr().out.splitlines() if "line-1" in line)
    assert (entry["route"], entry["status"], entry["method"]) == ("/models", 200, "GET")


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        (None, "application/x-hdf5"),
        ("*/*", "application/x-hdf5"),
        ("image/*", "image/png"),
        ("image/png;q=0.5, application/json", "application/json"),
        ("application/x-hdf5;q=0, */*;q=0.1", "image/png"),
    ],
)
def test_negotiation(accept: str | None, chosen: str) -> None:
    assert negotiate(accept, None, ("application/x-hdf5", "image/png", "application/json")) == chosen


@pytest.mark.parametrize("accept", ["text/html", "image/png;q=0", "image/png;q=nonsense"])
def test_nothing_acceptable(accept: str) -> None:
    with pytest.raises(NotAcceptable, match="expected Accept with one of image/png"):
        negotiate(accept, None, ("image/png",))


def test_media_type_parameters_are_unquoted() -> None:
    kind, parameters = media_type('Multipart/Related; type="application/dicom"; boundary="a b"')
    assert (kind, parameters) == ("multipart/related", {"type": "application/dicom", "boundary": "a b"})


def test_the_queue_is_bounded_and_drains() -> None:
    async def scenario() -> tuple[list[object], float]:
        scheduler = Scheduler(inferences=1, capacity=1)
        gate = threading.Event()
        running = asyncio.create_task(scheduler.run(gate.wait, Observation()))
        waiting = asyncio.create_task(scheduler.run(lambda: "second", Observation()))
        while not scheduler.waiting:
            await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="among 1 waiting"):
            await scheduler.run(lambda: "third", Observation())
        gate.set()
        answers = [await running, await waiting]
        scheduler.close()
        return answers, metrics.QUEUE_DEPTH._value.get()

    assert asyncio.run(scenario()) == ([True, "second"], 0)


def test_inferences_alone_compute_on_several_threads() -> None:
    """One pool of OpenMP's for each inference, and no other (Scheduler.prepare)."""
    before = torch.get_num_threads()

    async def scenario() -> list[int]:
        scheduler = Scheduler(inferences=2, capacity=2)
        counts = [await scheduler.prepare(torch.get_num_threads, threads=2)]
        jobs = [scheduler.run(torch.get_num_threads, Observation()) for _ in range(6)]
        counts += await asyncio.gather(*jobs[:4]) + await asyncio.gather(*jobs[4:])
        scheduler.close()
        return counts

    try:
        assert asyncio.run(scenario()) == [2] * 7
        with ThreadPoolExecutor(1) as others:
            assert others.submit(torch.get_num_threads).result() == 1
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_a_client_that_leaves_gives_its_place_back() -> None:
    async def scenario() -> str:
        scheduler = Scheduler(inferences=1, capacity=1)
        gate = threading.Event()
        running = asyncio.create_task(scheduler.run(gate.wait, Observation()))
        leaving = asyncio.create_task(scheduler.run(lambda: "left", Observation()))
        while not scheduler.waiting:
            await asyncio.sleep(0)
        leaving.cancel()
        running.cancel()
        await asyncio.gather(leaving, running, return_exceptions=True)
        gate.set()
        answer = await scheduler.run(lambda: "next", Observation())
        scheduler.close()
        return answer

    assert asyncio.run(scenario()) == "next"


def test_a_job_that_fails_frees_its_worker() -> None:
    def fail() -> None:
        raise RuntimeError("job")

    async def scenario() -> str:
        scheduler = Scheduler(inferences=1, capacity=0)
        with pytest.raises(RuntimeError, match="job"):
            await scheduler.run(fail, Observation())
        return await scheduler.run(lambda: "alive", Observation())

    assert asyncio.run(scenario()) == "alive"


def test_traces_without_their_packages_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(MissingTraces, match=r"expected the package opentelemetry\S+, .* pip install 'kdmri\[traces\]'"):
        traces.export_spans(True).__enter__()
