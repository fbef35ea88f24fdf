"""Whole HTTP requests to a service in a process of its own: against the bare model call, and against earlier code."""

import http.client
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from itertools import repeat
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

import h5py
import numpy as np

from kdmri.benchmark import Spread, in_turns, ratios
from kdmri.data.kspace import KSpace
from kdmri.formats.kspace import fastmri
from kdmri.phantoms import benchmark_scan
from tests.e2e.serving import PATIENCE, Service, serving

ROOT = Path(__file__).parents[2]
BEFORE = "7b2cde4"
"""The last commit before this project began to care for speed."""
CLIENTS = (1, 4, 16)
KIND = {"Content-Type": "application/x-hdf5"}


class Client:
    """A minimal HTTP client on one connection: it shares the processor with the service that it measures."""

    def __init__(self, service: Service) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(service.address).netloc, timeout=PATIENCE)
        self.stages: dict[str, float] = {}
        """Milliseconds that the last answer tells."""

    def send(self, body: bytes) -> None:
        """Send one request to the student. Raises RuntimeError if it is refused."""
        # One connection for all requests, as clients keep it: opening one would be part of every measured time.
        self._connection.request("POST", "/reconstruct", body, KIND)
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.status != http.client.OK:
            raise RuntimeError(f"expected 200, got {answer.status}: {content[:200]!r}")
        entries = re.findall(r"(\w+);dur=([\d.]+)", answer.headers.get("Server-Timing", ""))
        self.stages = {name: float(value) for name, value in entries}

    def repeat(self, body: bytes, ends: float) -> tuple[int, float]:
        """Send requests one after the other until a time; see `run_until`."""
        return run_until(partial(self.send, body), ends)

    def close(self) -> None:
        """End the connection."""
        self._connection.close()


def settings(threads: int, **more: object) -> dict[str, str]:
    """Return the settings of a measured service: no shadow runs, room for all clients, no log line for each answer."""
    # Shadow runs would compete with the requests for the processor, and log lines would be written between them.
    chosen = {"shadow_rate": 0, "queue": 64, "threads": threads, "log_level": "warning", **more}
    return {f"KDMRI_{name.upper()}": str(value) for name, value in chosen.items()}


def upload(kspace: KSpace) -> bytes:
    """Return a scan as the bytes of a fastMRI file."""
    with tempfile.TemporaryDirectory() as folder:
        fastmri.write(Path(folder) / "scan.h5", kspace)
        return (Path(folder) / "scan.h5").read_bytes()


def latency(service: Service, kspace: KSpace, bare: Callable[[], object], repeats: int) -> dict[str, object]:
    """Time requests of one client in turns with the bare model call.

    Args:
        service: Address of the service.
        kspace: The scan to send.
        bare: The same inference without HTTP.
        repeats: Number of pairs.

    Returns:
        Milliseconds of both, their ratio, and the stages of a request.
    """
    body, profile = upload(kspace), []
    with closing(Client(service)) as client:

        def request() -> None:
            client.send(body)
            profile.append(client.stages)

        found = in_turns({"request": request, "bare": bare}, repeats)
    return {
        "request": Spread.of(found["request"]),
        "bare": Spread.of(found["bare"]),
        "ratio": Spread.of(ratios(found["request"], found["bare"])),
        # Without the first, which is the warm-up of `in_turns`.
        "stages": {name: median(stages.get(name, 0.0) for stages in profile[1:]) for name in profile[-1]},
    }


def throughput(
    service: Service, kspace: KSpace, bare: Callable[[], object], *, clients: int, rounds: int, seconds: float
) -> dict[str, Spread]:
    """Measure requests a second of several clients, in turns with calls a second of a bare loop.

    Args:
        service: Address of the service.
        kspace: The scan to send.
        bare: The same inference without HTTP.
        clients: Number of clients.
        rounds: Number of turns.
        seconds: Length of a turn.
    """
    body = upload(kspace)
    found: dict[str, list[float]] = {"requests": [], "calls": []}
    with ExitStack() as opened:
        crowd = [opened.enter_context(closing(Client(service))) for _ in range(clients)]
        pool = opened.enter_context(ThreadPoolExecutor(clients))
        for turn in range(rounds + 1):
            counts = list(pool.map(Client.repeat, crowd, repeat(body), repeat(time.perf_counter() + seconds)))
            # By the longest time: each client ends with the request that it is at when the turn is over.
            pace = sum(count for count, _ in counts) / max(lasted for _, lasted in counts)
            count, lasted = run_until(bare, time.perf_counter() + seconds)
            if turn:  # the first warms up
                found["requests"].append(pace)
                found["calls"].append(count / lasted)
    shares = ratios(found["requests"], found["calls"])
    return {name: Spread.of(values) for name, values in {**found, "share": shares}.items()}


def run_until(run: Callable[[], object], ends: float) -> tuple[int, float]:
    """Run something until a time; returns how often it ran and the seconds until the last run ended."""
    started, count = time.perf_counter(), 0
    while time.perf_counter() < ends:
        run()
        count += 1
    return count, time.perf_counter() - started


def starts(folder: Path, repeats: int, **environment: str) -> Spread:
    """Measure the seconds from the start of a service until it is ready."""
    found = []
    for _ in range(repeats):
        started = time.perf_counter()
        with serving(folder, **environment):
            found.append(time.perf_counter() - started)
    return Spread.of(found)


@contextmanager
def earlier(folder: Path) -> Iterator[dict[str, str] | None]:
    """Return the environment that runs the service from the code of commit BEFORE, or None if git does not have it."""
    tree = folder / BEFORE
    # A work tree beside this one: the checkout, and what is not committed in it, stay as they are.
    added = ["git", "-C", str(ROOT), "worktree", "add", "--detach", str(tree), BEFORE]
    if subprocess.run(added, capture_output=True, check=False).returncode:
        yield None
        return
    try:
        yield {"PYTHONPATH": str(tree)}
    finally:
        subprocess.run(["git", "-C", str(ROOT), "worktree", "remove", "--force", str(tree)], check=True)


def stacks(
    folder: Path, threads: int, counts: tuple[int, int], shape: tuple[int, int, int]
) -> list[tuple[float, dict[str, float]]]:
    """Measure peak memory (VmHWM, in MB) and stage times of requests with many slices, each in a new service.

    Args:
        folder: Folder for uploads and logs.
        threads: Threads of an inference.
        counts: Numbers of slices.
        shape: Coils, rows and columns of each slice.
    """
    found = []
    for count in counts:
        path = folder / "stack.h5"
        _write_stack(path, count, shape)
        with serving(folder, **settings(threads)) as service:
            with closing(Client(service)) as client:
                client.send(path.read_bytes())
            # VmHWM is the peak of the whole life of the process, so every measurement needs a new one.
            status = Path(f"/proc/{service.process.pid}/status").read_text()
            megabytes = int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1000  # type: ignore[index]
            found.append((megabytes, client.stages))
        path.unlink()
    return found


def _write_stack(path: Path, count: int, shape: tuple[int, int, int]) -> None:
    coils, rows, columns = shape
    one = benchmark_scan(coils, rows, columns)
    with h5py.File(path, "w") as file:
        stored = file.create_dataset("kspace", (count, *shape), np.complex64)
        file["mask"] = one.mask[0, 0]
        # Slice by slice, because a stack of many slices need not fit in the memory of this process.
        for number in range(count):
            stored[number] = one.samples[0]
