"""The process of shadow runs. It imports what it runs once it has given up its priority: keep this module light."""

import multiprocessing
import os
import signal
import time
import warnings
from contextlib import suppress
from multiprocessing.connection import Connection

from service.live import Live


def main(connection: Connection, live: Live, device: str, threads: int | None) -> None:
    """Compare every sample that comes in, until the other end closes.

    Answers an `Outcome`, or the name of the error's class: its message may hold what the input holds.
    """
    _lowest_priority()
    # An interrupt at the terminal reaches every process of the group; the service decides when this one ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore")
    from service.rerun import Rerun

    rerun = Rerun(live, device=device, threads=threads, pause=_pause)
    with suppress(EOFError, BrokenPipeError):
        while True:
            sample = connection.recv()
            try:
                connection.send(rerun(sample))
            except Exception as error:
                connection.send(type(error).__name__)


def _pause(seconds: float) -> None:
    """Ends the process where the service is gone: killed while it was busy, it would seem so for ever."""
    time.sleep(seconds)
    service = multiprocessing.parent_process()
    if service and not service.is_alive():
        raise SystemExit


def _lowest_priority() -> None:
    """Run when nothing else wants to, this thread and those that it starts. Elsewhere than on Linux, merely nicely."""
    with suppress(OSError):
        if hasattr(os, "SCHED_IDLE"):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        elif hasattr(os, "nice"):
            os.nice(19)
