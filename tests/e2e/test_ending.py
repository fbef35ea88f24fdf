"""The end of the service: SIGTERM in the middle of requests, and parents that are killed."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from pydicom.data import get_testdata_file

from kdmri.bundles.store import Bundle
from tests.e2e import quick_models
from tests.e2e.serving import PATIENCE, Service, serving, until
from tests.e2e.test_service_process import children

MR = Path(get_testdata_file("MR_small.dcm")).read_bytes()
CLIENTS = 4


@pytest.fixture(scope="module")
def quick(bundles: list[Bundle], tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(quick_models.write(bundles, tmp_path_factory.mktemp("models")))


def statuses_until_it_ends(service: Service) -> Iterator[tuple[int, str]]:
    """Send requests one after the other, each over a connection of its own, until the port is closed.

    The kernel may reset the last connection, where the service has not accepted it: it was as good as refused.
    """
    while True:
        try:
            answer = httpx2.post(
                f"{service.address}/super-resolve",
                content=MR,
                headers={"content-type": "application/dicom"},
                timeout=PATIENCE,
            )
        except httpx2.TransportError:
            return
        yield answer.status_code, answer.headers.get("retry-after", "")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_requests_in_flight_are_answered_and_new_ones_refused(tmp_path: Path, quick: str, workers: str) -> None:
    settings = {"KDMRI_MODELS": quick, "KDMRI_SHADOW_RATE": "0", "KDMRI_QUEUE": "64"}
    with serving(tmp_path, "--workers", workers, **settings) as service, ThreadPoolExecutor(CLIENTS) as clients:
        # A worker that has not started yet has nothing to drain, and says nothing of it.
        until(lambda: service.log.read_text().count('"ready"') == int(workers))
        loads = [clients.submit(lambda: list(statuses_until_it_ends(service))) for _ in range(CLIENTS)]
        until(lambda: service.log.read_text().count('"answered"') > 2 * CLIENTS)
        assert service.stop() == 0
        seen = [status for load in loads for status in load.result()]
    assert {status for status, _ in seen} == {200, 503}
    assert all(retry_after for status, retry_after in seen if status == 503)
    events = [json.loads(line)["event"] for line in service.log.read_text().splitlines() if line.startswith("{")]
    assert events.count("draining") == int(workers)
    # Every request that the service began to work on was answered, and its client has the answer.
    assert events.count("answered") == len(seen)
    assert not {"requests are cut off", "client left", "request failed"} & set(events)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with a parent that is killed")
def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path, quick: str) -> None:
    with serving(tmp_path, "--workers", "2", KDMRI_MODELS=quick, KDMRI_SHADOW_RATE="0") as service:
        until(lambda: service.log.read_text().count('"ready"') == 2)
        workers = children(service.process.pid)
        assert len(workers) >= 2
        os.kill(service.process.pid, signal.SIGKILL)
        service.process.wait()
        until(lambda: not any(lives(worker) for worker in workers))


def lives(process: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False
