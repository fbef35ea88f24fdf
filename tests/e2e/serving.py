"""`kdmri serve` as an operator starts it, for tests and measurements."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

KDMRI = Path(sys.executable).with_name("kdmri")
PATIENCE = 180.0
"""Seconds until what should happen is taken not to happen: a slow machine is no failure."""


@dataclass(frozen=True)
class Service:
    """A running service."""

    address: str
    process: subprocess.Popen[bytes]
    log: Path

    def stop(self) -> int:
        """Ask it to end; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=PATIENCE)


@contextmanager
def serving(folder: Path, *flags: str, **environment: str) -> Iterator[Service]:
    """A service that answers, on a free port; what it writes goes to a log in `folder`."""
    log = folder / "log"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command: list[str | Path] = [KDMRI, "serve", "--port", str(port), *flags]
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command, stdout=sink, stderr=subprocess.STDOUT, env={**os.environ, **environment}, start_new_session=True
        )
    service = Service(f"http://127.0.0.1:{port}", process, log)
    try:
        until(lambda: answers(service) or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        yield service
    finally:
        if process.poll() is None:
            service.stop()


def answers(service: Service) -> bool:
    """Whether the service is ready."""
    try:
        return httpx2.get(f"{service.address}/readyz", timeout=PATIENCE).status_code == 200
    except httpx2.TransportError:
        return False


def until(holds: Callable[[], bool]) -> None:
    """Ask again and again; fails where it does not come true."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)
