"""The watchdog: it ends a process whose event loop is blocked, so that a supervisor starts another one."""

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

log = structlog.get_logger()

BEAT_SECONDS = 5.0
MISSED_BEATS = 12
"""Beats missed in a row after which the loop counts as blocked: a minute. Several short waits, not one long one: a
machine that was suspended wakes up with one wait elapsed and a loop that is well."""
EXIT_STATUS = 70
"""EX_SOFTWARE of sysexits.h: an internal error."""


@contextmanager
def watching(
    loop: asyncio.AbstractEventLoop,
    *,
    beat_seconds: float = BEAT_SECONDS,
    missed_beats: int = MISSED_BEATS,
    end: Callable[[int], object] = os._exit,
) -> Iterator[None]:
    """Watch an event loop from a thread of its own.

    Args:
        loop: Must run a callback within `missed_beats` beats.
        beat_seconds: Time between two beats.
        missed_beats: Beats missed in a row that count as a blocked loop.
        end: Called with EXIT_STATUS if the loop is blocked. A blocked loop can't be asked to end, so by default the
            process exits at once.
    """
    stopping = threading.Event()

    def watch() -> None:
        missed = 0
        beat = threading.Event()
        while not stopping.is_set():
            # A beat that is still missing stays queued in the loop; a second one would pile up behind it.
            if missed == 0:
                beat.clear()
                loop.call_soon_threadsafe(beat.set)
            if stopping.wait(beat_seconds):
                return
            missed = 0 if beat.is_set() else missed + 1
            if missed == missed_beats:
                log.error("the event loop is blocked", seconds=missed_beats * beat_seconds)
                end(EXIT_STATUS)
                return

    # A daemon: an interpreter that ends without the context must not wait for it.
    thread = threading.Thread(target=watch, name="watchdog", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()
