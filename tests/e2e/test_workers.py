"""Two worker processes, one service: counters add up whoever answers, and survive a worker's death."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydicom.data import get_testdata_file

from kdmri.bundles.store import Bundle
from tests.e2e import quick_models
from tests.e2e.serving import PATIENCE, Service, serving, until

MR = Path(get_testdata_file("MR_small.dcm")).read_bytes()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("metrics")


@pytest.fixture(scope="module")
def pair(bundles: list[Bundle], shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service of two workers with quick models, a queue of 7 each; an earlier one left files."""
    models = quick_models.write(bundles, tmp_path_factory.mktemp("models"))
    (shared / "counter_1.db").write_bytes(b"left by a service that ended long ago")
    settings = {"KDMRI_MODELS": str(models), "KDMRI_QUEUE": "7", "PROMETHEUS_MULTIPROC_DIR": str(shared)}
    with serving(tmp_path_factory.mktemp("log"), "--workers", "2", KDMRI_SHADOW_RATE="0", **settings) as service:
        until(lambda: len(workers(shared)) == 2 and value(service, "kdmri_queue_capacity") == 14)
        yield service


def workers(shared: Path) -> set[int]:
    """Processes that count, and live."""
    counting = {int(file.stem.rpartition("_")[2]) for file in shared.glob("counter_*.db")}
    return {process for process in counting if Path(f"/proc/{process}").exists()}


def value(service: Service, name: str, **labels: str) -> float:
    """Over a new connection, so that either worker may answer."""
    families = text_string_to_metric_families(httpx2.get(f"{service.address}/metrics", timeout=PATIENCE).text)
    samples = [s for family in families for s in family.samples if s.name == name]
    return sum(s.value for s in samples if labels.items() <= s.labels.items())


def send(service: Service, role: str) -> int:
    headers = {"content-type": "application/dicom"}
    url = f"{service.address}/super-resolve?role={role}"
    return httpx2.post(url, content=MR, headers=headers, timeout=PATIENCE).status_code


def answered(service: Service) -> float:
    return value(service, "kdmri_requests_total", operation="super_resolve", status="200")


def test_counts_of_both_workers_add_up_and_survive_the_death_of_one(pair: Service, shared: Path, bundles) -> None:
    with ThreadPoolExecutor(6) as clients:
        assert set(clients.map(lambda _: send(pair, "student"), range(20))) == {200}
    assert {answered(pair) for _ in range(10)} == {20}
    assert value(pair, "kdmri_slice_duration_seconds_count", role="student") == 20
    assert value(pair, "kdmri_in_progress") == value(pair, "kdmri_queue_depth") == 0
    spent = value(pair, "process_cpu_seconds_total")

    victim = min(workers(shared))
    os.kill(victim, signal.SIGKILL)
    until(lambda: victim not in workers(shared))
    until(lambda: len(workers(shared)) == 2)
    until(lambda: value(pair, "kdmri_queue_capacity") == 14)

    assert {answered(pair) for _ in range(10)} == {20}
    assert send(pair, "teacher") == 200
    assert {answered(pair) for _ in range(10)} == {21}
    assert value(pair, "kdmri_model_info") == len(bundles)
    assert value(pair, "process_cpu_seconds_total") >= spent


def test_stopping_stops_both(shared: Path, pair: Service) -> None:
    running = workers(shared)
    assert pair.stop() == 0
    assert not any(Path(f"/proc/{process}").exists() for process in running)


def test_what_a_dead_worker_was_busy_with_is_forgotten_and_what_it_counted_is_not(tmp_path: Path) -> None:
    """A worker that dies in the middle of requests leaves gauges that nobody would ever lower."""
    count = "from kdmri_service.observability import metrics as t; t.IN_PROGRESS.set(3); t.SHADOW_DROPPED.inc(2)"
    tell = "from kdmri_service.observability import metrics as t; print(t.exposition(None)[0].decode())"
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}

    def run(code: str) -> str:
        return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True).stdout

    alive = run(f"{count}; {tell.partition(';')[2]}")
    assert "kdmri_in_progress 3.0" in alive
    later = run(tell)
    assert "kdmri_in_progress 0.0" in later
    assert "kdmri_shadow_dropped_total 2.0" in later
