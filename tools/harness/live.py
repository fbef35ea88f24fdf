"""The service, Prometheus and other programmes as processes on free ports, for tests and reports."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import httpx2
import torch

from kdmri.bundles.location import models_folder
from kdmri.bundles.store import load_all
from kdmri.runtime.backends.selection import choose_fastest

KDMRI = Path(sys.executable).with_name("kdmri")
RULES = Path(__file__).parents[2] / "deploy" / "prometheus" / "rules"
REUSE = httpx2.Limits(keepalive_expiry=2)
"""For clients that pause: the server ends a connection after 5 s without a request, perhaps just as one is sent."""


def backend(threads: int) -> str:
    """Return the back end that a service would choose here. It is measured once, so compared services are alike."""
    return choose_fastest(load_all(models_folder()), device=torch.device("cpu"), threads=threads).backend


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        # Port 0 lets the kernel choose; another programme may take the port before it is used, which is rare.
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(address: str) -> bool:
    """Return whether a GET is answered 200."""
    try:
        with urlopen(address, timeout=5) as response:
            return response.status == 200
    except (URLError, OSError):
        return False


def until(done: Callable[[], bool], *, seconds: float, what: str, pause: float = 0.2) -> None:
    """Try until a condition holds.

    Args:
        done: The condition.
        seconds: Time limit.
        what: Description of the condition, for the error.
        pause: Seconds between two tries.

    Raises:
        TimeoutError: The condition did not hold in time.
    """
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:g} s in vain for {what}")
        time.sleep(pause)


@contextmanager
def process(
    command: Sequence[str | Path], *, ready: Callable[[], bool], log: Path, settings: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Run a programme for as long as the context lasts, from when it is ready.

    Args:
        command: The programme and its arguments.
        ready: Returns whether it is ready.
        log: File for its output.
        settings: Environment variables.

    Raises:
        RuntimeError: It never became ready; the text ends with its log.
    """
    with log.open("wb") as sink:
        started = subprocess.Popen(command, stdout=sink, stderr=sink, env={**os.environ, **(settings or {})})
    try:
        until(lambda: started.poll() is not None or ready(), seconds=120, what=str(command[0]))
        if started.poll() is not None:
            raise RuntimeError(f"{command[0]} ended with {started.returncode}:\n{log.read_text()[-2000:]}")
        yield
    finally:
        # SIGTERM first, because the service drains; a programme that hangs must not outlive the test.
        started.terminate()
        try:
            started.wait(timeout=20)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


@contextmanager
def service(folder: Path, **settings: object) -> Iterator[str]:
    """Run `kdmri serve` with KDMRI_* settings, its log in a folder, and provide its address."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    environment = {f"KDMRI_{name.upper()}": str(value) for name, value in settings.items()}
    command: list[str | Path] = [KDMRI, "serve", "--port", str(port)]
    with process(command, ready=lambda: answers(f"{address}/readyz"), log=folder / "service.log", settings=environment):
        yield address


@contextmanager
def prometheus(folder: Path, target: str, *, interval: str) -> Iterator[str]:
    """Run a Prometheus with this project's rules, and provide its address.

    Args:
        folder: Folder for its configuration, data and log.
        target: Address of the service to scrape.
        interval: Time between scrapes, as Prometheus writes it.
    """
    address = f"127.0.0.1:{free_port()}"
    config = folder / "prometheus.yml"
    config.write_text(
        f"global: {{scrape_interval: {interval}, evaluation_interval: {interval}}}\n"
        f"rule_files: ['{RULES}/*.yml']\n"
        f"scrape_configs: [{{job_name: kdmri, static_configs: [{{targets: ['{target.removeprefix('http://')}']}}]}}]\n"
    )
    command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}"]
    command += [f"--web.listen-address={address}", "--log.level=warn"]
    with process(command, ready=lambda: answers(f"http://{address}/-/ready"), log=folder / "prometheus.log"):
        yield f"http://{address}"
