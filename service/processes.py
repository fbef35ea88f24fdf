"""Several worker processes as one service: metrics shared through files, dead workers' gauges forgotten, one choice.

prometheus-client's multiprocess mode keeps each process' values in files of PROMETHEUS_MULTIPROC_DIR; whichever worker
is scraped answers for all. Counters and histograms of a dead worker stay, as they must; its gauges go.
"""

import json
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
        written = file.with_suffix(f".{os.getpid()}")
        written.write_text(json.dumps(decide()))
        # A link appears at once and whole, and only where there is none yet.
        with suppress(FileExistsError):
            os.link(written, file)
        written.unlink()
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
    registry.register(_Processes(living))
    return registry


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)  # asks, and sends nothing
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


class _Processes(Collector):
    """process_* summed over workers and the process that started them, whose children's time counts the dead."""

    def __init__(self, workers: Iterable[int]) -> None:
        self._processes = (*workers, os.getppid())

    def collect(self) -> Iterable[Metric]:
        found: dict[str, Metric] = {}
        for process in self._processes:
            for metric in ProcessCollector(pid=partial(str, process), registry=None).collect():
                if metric.name not in found:
                    found[metric.name] = metric
                    continue
                (first,), (other,) = found[metric.name].samples, metric.samples
                value = min(first.value, other.value) if metric.name == OLDEST else first.value + other.value
                found[metric.name].samples = [first._replace(value=value)]
        if cpu := found.get("process_cpu_seconds"):
            (sample,) = cpu.samples
            cpu.samples = [sample._replace(value=sample.value + _seconds_of_ended_children())]
        return found.values()


def _seconds_of_ended_children() -> float:
    """Processor time of workers that have died: proc(5), stat fields 16 and 17 of the process that started them."""
    fields = Path(f"/proc/{os.getppid()}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) / TICKS
