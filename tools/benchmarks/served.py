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
    """A client that keeps its connection, as little code as can be: it shares the processor with the service."""

    def __init__(self, service: Service) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(service.address).netloc, timeout=PATIENCE)
        self.stages: dict[str, float] = {}
        """Milliseconds that the last answer tells."""

    def send(self, body: bytes) -> None:
        """One request to the student. Raises RuntimeError where it is refused."""
        self._connection.request("POST", "/reconstruct", body, KIND)
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.status != http.client.OK:
            raise RuntimeError(f"expected 200, got {answer.status}: {content[:200]!r}")
        entries = re.findall(r"(\w+);dur=([\d.]+)", answer.headers.get("Server-Timing", ""))
        self.stages = {name: float(value) for name, value in entries}

    def repeat(self, body: bytes, ends: float) -> tuple[int, float]:
        """Requests one after the other until a time: see `repeated`."""
        return repeated(partial(self.send, body), ends)

    def close(self) -> None:
        """End the connection."""
        self._connection.close()


def settings(threads: int, **more: object) -> dict[str, str]:
    """Of a service that is measured: no shadow runs, room for all clients, no line for every answer."""
    chosen = {"shadow_rate": 0, "queue": 64, "threads": threads, "log_level": "warning", **more}
    return {f"KDMRI_{name.upper()}": str(value) for name, value in chosen.items()}


def upload(kspace: KSpace) -> bytes:
    """The scan as a fastMRI file."""
    with tempfile.TemporaryDirectory() as folder:
        fastmri.write(Path(folder) / "scan.h5", kspace)
        return (Path(folder) / "scan.h5").read_bytes()


def latency(service: Service, kspace: KSpace, bare: Callable[[], object], repeats: int) -> dict[str, object]:
    """One client's requests in turn with the bare model call: milliseconds, their ratio, and where the time went."""
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
        "stages": {name: median(stages.get(name, 0.0) for stages in profile[1:]) for name in profile[-1]},
    }


def throughput(
    service: Service, kspace: KSpace, bare: Callable[[], object], *, clients: int, rounds: int, seconds: float
) -> dict[str, Spread]:
    """Requests a second by so many clients at a time, and calls a second of a bare loop, in turns of `seconds`."""
    body = upload(kspace)
    found: dict[str, list[float]] = {"requests": [], "calls": []}
    with ExitStack() as opened:
        crowd = [opened.enter_context(closing(Client(service))) for _ in range(clients)]
        pool = opened.enter_context(ThreadPoolExecutor(clients))
        for turn in range(rounds + 1):
            counts = list(pool.map(Client.repeat, crowd, repeat(body), repeat(time.perf_counter() + seconds)))
            pace = sum(count for count, _ in counts) / max(lasted for _, lasted in counts)
            count, lasted = repeated(bare, time.perf_counter() + seconds)
            if turn:  # the first warms up
                found["requests"].append(pace)
                found["calls"].append(count / lasted)
    shares = ratios(found["requests"], found["calls"])
    return {name: Spread.of(values) for name, values in {**found, "share": shares}.items()}


def repeated(run: Callable[[], object], ends: float) -> tuple[int, float]:
    """How often something ran until a time, and the seconds that it took, the last run to its end."""
    started, count = time.perf_counter(), 0
    while time.perf_counter() < ends:
        run()
        count += 1
    return count, time.perf_counter() - started


def starts(folder: Path, repeats: int, **environment: str) -> Spread:
    """Seconds from a service's start until it says that it is ready."""
    found = []
    for _ in range(repeats):
        started = time.perf_counter()
        with serving(folder, **environment):
            found.append(time.perf_counter() - started)
    return Spread.of(found)


@contextmanager
def earlier(folder: Path) -> Iterator[dict[str, str] | None]:
    """The environment in which a service runs the code of commit BEFORE; None where git does not have it."""
    tree = folder / BEFORE
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
    """Megabytes that a service takes at most (VmHWM) and milliseconds of a request's stages, a new service for each
    number of slices of (coil, row, column)."""
    found = []
    for count in counts:
        path = folder / "stack.h5"
        _write_stack(path, count, shape)
        with serving(folder, **settings(threads)) as service:
            with closing(Client(service)) as client:
                client.send(path.read_bytes())
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
        for number in range(count):
            stored[number] = one.samples[0]
