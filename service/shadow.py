"""Live answers made again by the other role, on time that nobody wants: what the student costs, seen in production.

Two things keep a live request from waiting: runs have a process of their own at the lowest priority that the system
has, and before each stage of the model they wait until no live request is being worked on. A thread would not do: kept
from running by whatever else the machine does, it may hold Python's lock, and then live requests wait for it (measured:
their 95th percentile rose by half). Memory is bounded: one input runs, one waits, each a batch of the runtime at most.
"""

import contextvars
import multiprocessing
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

import structlog

from kdmri.bundle import Bundle
from service import background, telemetry
from service.inference import Answer
from service.live import Live
from service.models import Models
from service.rerun import Outcome, Sample

log = structlog.get_logger()


class Shadow:
    """The low-priority slot. `rate` in [0, 1] is the share of live requests that are run again."""

    def __init__(self, models: Models, live: Live, *, rate: float) -> None:
        self.rate = rate
        self._models = models
        self._live = live
        self._room = threading.BoundedSemaphore(2)  # one runs, one waits
        self._stopping = threading.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="shadow")
        """Talks to the process, and waits for it."""
        self._process: SpawnProcess | None = None
        self._connection: Connection | None = None

    def drawn(self, answer: Answer) -> Bundle | None:
        """The bundle to run a live request again with; None where it was not drawn, or has no counterpart."""
        return self._models.counterpart(answer.manifest) if random.random() < self.rate else None

    async def offer(self, sample: Callable[[], Sample]) -> None:
        """Compare when there is time; drop the sample, counted, where another one waits already.

        A coroutine, so that FastAPI calls it on the event loop once the answer is sent.
        """
        if self._stopping.is_set() or not self._room.acquire(blocking=False):
            telemetry.SHADOW_DROPPED.inc()
            return
        try:
            # In the request's context, so that log lines carry its id.
            self._thread.submit(contextvars.copy_context().run, self._run, sample())
        except BaseException:
            self._room.release()
            raise

    def close(self) -> None:
        """End at once: a comparison is not worth waiting for."""
        self._stopping.set()
        if self._process:
            self._process.kill()
        self._thread.shutdown(wait=True, cancel_futures=True)
        if self._process:
            self._process.join()

    def _run(self, sample: Sample) -> None:
        try:
            found = self._answer(sample)
        except (EOFError, OSError):
            # Killed, by `close` or for want of memory. The next run starts another one.
            found = "ProcessEnded"
            self._connection = None
        finally:
            self._room.release()
        if isinstance(found, Outcome):
            telemetry.shadowed(sample.operation, found.comparison, timed=found.undisturbed)
            psnr = round(found.comparison.psnr_db, 2)
            log.info("shadow compared", operation=sample.operation, psnr_db=psnr, timed=found.undisturbed)
        elif not self._stopping.is_set():
            log.error("shadow failed", operation=sample.operation, error=found)

    def _answer(self, sample: Sample) -> Outcome | str:
        connection = self._connection or self._start()
        connection.send(sample)
        found: Outcome | str = connection.recv()
        return found

    def _start(self) -> Connection:
        """The process, started with the first sample. Spawned: a copy of this one would hold its threads' locks."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        arguments = (theirs, self._live, self._models.device, self._models.threads)
        self._process = context.Process(target=background.main, args=arguments, daemon=True, name="shadow")
        self._process.start()
        theirs.close()
        if self._stopping.is_set():
            self._process.kill()
        self._connection = ours
        return ours
