"""Several worker processes as one service: metrics shared through files, dead workers' gauges forgotten, one choice.

prometheus-client's multiprocess mode keeps each process' values in files of PROMETHEUS_MULTIPROC_DIR; whichever worker
is scraped answers for all. Counters and histograms of a dead worker stay, as they must; its gauges go.
"""

import json
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry, Metric, ProcessCollector
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
CPU = "process_cpu_seconds"
OLDEST = "process_start_time_seconds"
"""The one process metric that is not a sum: the service is as old as its oldest process."""


@contextmanager
def shared_metrics() -> Iterator[None]:
    """An empty folder for the values of processes that are started inside: the operator's, or a temporary one."""
    if given := os.environ.get(FOLDER):
        folder = Path(given)
        folder.mkdir(parents=True, exist_ok=True)
        for left in (*folder.glob("*.db"), *folder.glob("*.json")):
            left.unlink()
        yield
        return
    with tempfile.TemporaryDirectory(prefix="kdmri-metrics-") as made:
        os.environ[FOLDER] = made
        try:
            yield
        finally:
            del os.environ[FOLDER]


def agreed(name: str, decide: Callable[[], dict[str, str]]) -> dict[str, str]:
    """What `decide` answers; with several workers, what it answered in the first of them to finish."""
    if not (shared := os.environ.get(FOLDER)):
        return decide()
    file = Path(shared) / f"{name}.json"
    if not file.exists():
        with tempfile.NamedTemporaryFile("w", dir=shared, suffix=".undecided") as written:
            written.write(json.dumps(decide()))
            written.flush()
            # A link appears at once and whole, and only where there is none yet.
            with suppress(FileExistsError):
                os.link(written.name, file)
    found: dict[str, str] = json.loads(file.read_text())
    return found


def registry_of_all(folder: Path) -> CollectorRegistry:
    """What all processes that write to `folder` have counted."""
    counting = {int(file.stem.rpartition("_")[2]) for file in folder.glob("*.db")}
    living = {process for process in counting if _lives(process)}
    for process in counting - living:
        # Another scrape may have come first.
        with suppress(FileNotFoundError):
            mark_process_dead(process, str(folder))
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(folder))
    # Shadows are among the living; the process that started all workers counts nothing and is not.
    registry.register(Together(lambda: (*living, os.getppid())))
    return registry


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)  # asks, and sends nothing
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


class Together(Collector):
    """process_* summed over processes, asked for at every scrape; the time of their ended children is theirs."""

    def __init__(self, living: Callable[[], Iterable[int]]) -> None:
        self._living = living

    def collect(self) -> Iterable[Metric]:
        found: dict[str, Metric] = {}
        for process in self._living():
            for metric in ProcessCollector(pid=partial(str, process), registry=None).collect():
                (sample,) = metric.samples
                if metric.name == CPU:
                    sample = sample._replace(value=sample.value + _seconds_of_ended_children(process))
                if metric.name in found:
                    (first,) = found[metric.name].samples
                    value = min(first.value, sample.value) if metric.name == OLDEST else first.value + sample.value
                    sample = first._replace(value=value)
                metric.samples = [sample]
                found[metric.name] = metric
        return found.values()


def with_children() -> list[int]:
    """This process and those that it started: a shadow has models of its own."""
    children = (child.pid for child in multiprocessing.active_children())
    return [os.getpid(), *(pid for pid in children if pid)]


def _seconds_of_ended_children(process: int) -> float:
    """Processor time of what a process started and has seen end: proc(5), stat fields 16 and 17."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # ended meanwhile, or a system without /proc
        return 0.0
    return (int(fields[13]) + int(fields[14])) / TICKS
