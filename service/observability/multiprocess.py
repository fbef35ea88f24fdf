"""Metrics of several worker processes: shared through files, totals over processes, dead workers' gauges removed.

prometheus-client's multiprocess mode keeps the values of each process in files of PROMETHEUS_MULTIPROC_DIR; whichever
worker is scraped answers for all. Counters and histograms of a dead worker stay, as they must; its gauges go.
"""

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
# Units of processor time per second in /proc/<pid>/stat; 100 stands in on systems that have no /proc either.
TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
CPU = "process_cpu_seconds"
START = "process_start_time_seconds"
"""The one process metric that is not a sum: the service is as old as its oldest process."""


@contextmanager
def shared_metrics() -> Iterator[None]:
    """Provide an empty folder for the values of processes started inside: the operator's, or a temporary one."""
    if given := os.environ.get(FOLDER):
        folder = Path(given)
        folder.mkdir(parents=True, exist_ok=True)
        # Files of an earlier run would be summed up with those of this one, and its decisions would be taken for ours.
        for stale in (*folder.glob("*.db"), *folder.glob("*.json")):
            stale.unlink()
        yield
        return
    with tempfile.TemporaryDirectory(prefix="kdmri-metrics-") as made:
        os.environ[FOLDER] = made
        try:
            yield
        finally:
            del os.environ[FOLDER]


def registry_of_all(folder: Path) -> CollectorRegistry:
    """Return a registry with the metrics of all processes that write to a folder."""
    # prometheus-client names a file after the kind of metric and the process id: gauge_livesum_123.db.
    counting = {int(file.stem.rpartition("_")[2]) for file in folder.glob("*.db")}
    living = {process for process in counting if _is_alive(process)}
    for process in counting - living:
        # A scrape of another worker may have removed the files meanwhile.
        with suppress(FileNotFoundError):
            mark_process_dead(process, str(folder))
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(folder))
    # Shadow processes write to the folder too. The process that started all workers does not, so it is added.
    registry.register(ProcessTotals(lambda: (*living, os.getppid())))
    return registry


def _is_alive(process: int) -> bool:
    try:
        # Signal 0 checks that the process exists, and sends nothing.
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        # The process exists, and belongs to another user.
        return True
    return True


class ProcessTotals(Collector):
    """Sums of process_* metrics over processes, read at every scrape; includes the time of their ended children."""

    def __init__(self, living: Callable[[], Iterable[int]]) -> None:
        self._living = living

    def collect(self) -> Iterable[Metric]:
        """Return one metric for each process_* metric."""
        totals: dict[str, Metric] = {}
        for process in self._living():
            for metric in ProcessCollector(pid=partial(str, process), registry=None).collect():
                (sample,) = metric.samples
                if metric.name == CPU:
                    sample = sample._replace(value=sample.value + _seconds_of_ended_children(process))
                if metric.name in totals:
                    (total,) = totals[metric.name].samples
                    value = min(total.value, sample.value) if metric.name == START else total.value + sample.value
                    sample = total._replace(value=value)
                metric.samples = [sample]
                totals[metric.name] = metric
        return totals.values()


def with_children() -> list[int]:
    """Return the ids of this process and of those that it started: the shadow process has models of its own."""
    children = (child.pid for child in multiprocessing.active_children())
    return [os.getpid(), *(pid for pid in children if pid)]


def _seconds_of_ended_children(process: int) -> float:
    """Return the processor time of the ended children of a process: proc(5), stat fields 16 and 17."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        # The process has ended meanwhile, or the system has no /proc.
        return 0.0
    return (int(fields[13]) + int(fields[14])) / TICKS
