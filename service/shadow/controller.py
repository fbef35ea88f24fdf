"""Live answers made again by both roles, on time that nobody wants: what the student costs, seen in production.

What runs is a process of its own, stopped by a signal for as long as a live request is worked on, from its upload's end
to its answer, and at the lowest priority that the system has, for the sake of other workers. A thread that waits
between stages would not do: kept from running by whatever else the machine does, it may hold Python's lock, and live
requests wait for it.
Memory is bounded: one input runs, one waits, each of as many slices as `rerun` says.
"""

import atexit
import contextvars
import multiprocessing
import os
import random
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

import structlog
from anyio.to_thread import run_sync
from kdmri_service.engine.catalogue import Models
from kdmri_service.engine.inference import Answer
from kdmri_service.engine.scheduler import Scheduler
from kdmri_service.observability import observation as telemetry
from kdmri_service.shadow import process as background
from kdmri_service.shadow.replay import Pair, Sample

from kdmri.quality.comparison import Comparison

log = structlog.get_logger()


class Shadow:
    """The low-priority slot. `rate` in [0, 1] is the share of live requests that are run again."""

    def __init__(self, models: Models, scheduler: Scheduler, *, rate: float) -> None:
        self.rate = rate
        self._models = models
        self._scheduler = scheduler
        scheduler.busy_changed = self.make_way
        self._room = threading.BoundedSemaphore(2)  # one runs, one waits
        self._stopping = threading.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="shadow")
        """Talks to the process, and waits for it."""
        self._process: SpawnProcess | None = None
        self._signals = threading.Lock()
        """So that the process is left as the last word on live work says."""
        self._held = False
        self._connection: Connection | None = None

    def drawn(self, answer: Answer) -> Pair | None:
        """The bundles to run a live request again with; None where it was not drawn, or has no counterpart."""
        if random.random() >= self.rate or not (other := self._models.counterpart(answer.manifest)):
            return None
        own = next(b for b in self._models.bundles if b.manifest.reference == answer.manifest.reference)
        return own, other

    async def offer(self, sample: Callable[[], Sample]) -> None:
        """Compare when there is time; drop the sample, counted, where another one waits already.

        A coroutine, so that FastAPI calls it on the event loop once the answer is sent.
        """
        if self._stopping.is_set() or not self._room.acquire(blocking=False):
            telemetry.SHADOW_DROPPED.inc()
            return
        try:
            # Off the event loop, for it reads the upload; in the request's context, so that log lines carry its id.
            self._thread.submit(contextvars.copy_context().run, self._run, await run_sync(sample))
        except BaseException:
            self._room.release()
            raise

    def make_way(self, busy: bool) -> None:
        """Stop the process where live work begins, and let it go on where that has ended."""
        with self._signals:
            self._held = busy
            self._signal()

    def _signal(self) -> None:
        if self._process and self._process.pid and self._process.exitcode is None:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGSTOP if self._held else signal.SIGCONT)

    def close(self) -> None:
        """End at once: a comparison is not worth waiting for."""
        self._stopping.set()
        if self._process:
            self._process.kill()
        self._thread.shutdown(wait=True, cancel_futures=True)
        if self._process:
            self._process.join()

    def _run(self, sample: Sample) -> None:
        spells = self._scheduler.spells
        found: Comparison | str
        try:
            found = self._answer(sample)
        except (EOFError, OSError):
            # Killed, by `close` or for want of memory. The next run starts another one.
            found = "ProcessEnded"
            self._connection = None
        finally:
            self._room.release()
        if isinstance(found, Comparison):
            # Where a live request came in between, the time that the process was stopped for counts as the model's.
            undisturbed = spells == self._scheduler.spells
            telemetry.shadowed(sample.operation, found, timed=undisturbed)
            log.info("shadow compared", operation=sample.operation, psnr_db=round(found.psnr_db, 2), timed=undisturbed)
        elif not self._stopping.is_set():
            log.error("shadow failed", operation=sample.operation, error=found)

    def _answer(self, sample: Sample) -> Comparison | str:
        connection = self._connection or self._start()
        connection.send(sample)
        found: Comparison | str = connection.recv()
        return found

    def _start(self) -> Connection:
        """The process, started with the first sample. Spawned: a copy of this one would hold its threads' locks."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        arguments = (theirs, self._models.device, self._models.threads, self._models.backend)
        process = context.Process(target=background.main, args=arguments, daemon=True, name="shadow")
        process.start()
        theirs.close()
        # A stopped process does not hear that it is to end when Python ends without `close`; this it can't help.
        atexit.register(process.kill)
        with self._signals:
            self._process = process
            self._signal()
        if self._stopping.is_set():
            process.kill()
        self._connection = ours
        return ours
