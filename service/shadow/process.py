"""The shadow process. It imports what it runs after it has lowered its priority: keep this module light."""

import multiprocessing
import os
import signal
import warnings
from contextlib import suppress
from multiprocessing.connection import Connection

from kdmri_service.processes import end_with_parent

LOWEST_NICENESS = 19


def main(connection: Connection, device: str, threads: int, backend: str) -> None:
    """Compare every sample that is received, until the other end of the connection closes.

    Sends a `Comparison`, or the name of the error's class: the message of an error may quote the input.

    Args:
        connection: Receives samples and sends comparisons.
        device: Where models run.
        threads: Threads of one inference.
        backend: What runs the networks.
    """
    _lower_priority()
    # A stopped process can't notice by itself that the service was killed.
    if parent := multiprocessing.parent_process():
        end_with_parent(parent.pid or 0)
    # An interrupt at the terminal reaches every process of the group; the service decides when this one ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore")
    # Imported after the priority is lowered: loading torch takes a second of a core that live requests need.
    from kdmri_service.shadow.replay import Replay

    replay = Replay(device=device, threads=threads, backend=backend)
    with suppress(EOFError, BrokenPipeError):
        while True:
            sample = connection.recv()
            try:
                connection.send(replay(sample))
            except Exception as error:
                connection.send(type(error).__name__)


def _lower_priority() -> None:
    """Run this thread, and those that it starts, only while a core is idle; outside Linux, at the lowest priority."""
    with suppress(OSError):
        if hasattr(os, "SCHED_IDLE"):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        else:
            os.nice(LOWEST_NICENESS)
