"""The process of shadow runs. It imports what it runs once it has given up its priority: keep this module light."""

import ctypes
import os
import signal
import warnings
from contextlib import suppress
from multiprocessing.connection import Connection

PR_SET_PDEATHSIG = 1


def main(connection: Connection, device: str, threads: int, backend: str) -> None:
    """Compare every sample that comes in, until the other end closes.

    Answers a `Comparison`, or the name of the error's class: its message may hold what the input holds.
    """
    _lowest_priority()
    _end_with_the_service()
    # An interrupt at the terminal reaches every process of the group; the service decides when this one ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore")
    from kdmri_service.shadow.replay import Rerun

    rerun = Rerun(device=device, threads=threads, backend=backend)
    with suppress(EOFError, BrokenPipeError):
        while True:
            sample = connection.recv()
            try:
                connection.send(rerun(sample))
            except Exception as error:
                connection.send(type(error).__name__)


def _lowest_priority() -> None:
    """Run when nothing else wants to, this thread and those that it starts. Elsewhere than on Linux, merely nicely."""
    with suppress(OSError):
        if hasattr(os, "SCHED_IDLE"):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        else:
            os.nice(19)


def _end_with_the_service() -> None:
    """A service that is killed while this process is stopped can't wake it up to see that: Linux is to end it."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
