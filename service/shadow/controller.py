"""The shadow: a share of live requests replayed by both roles, which shows what the student costs in production.

Replays run in a process of their own. A signal stops it for as long as a live request is worked on, from the end of its
upload to its answer, and it has the lowest priority of the system, for the sake of other workers. A thread that pauses
between stages would not do: descheduled while it holds Python's lock, it keeps live requests waiting for that lock.
Memory is bounded: one sample runs and one waits, each of at most `replay.MOST_BYTES`.
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
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

import structlog
from anyio.to_thread import run_sync
from kdmri_service.engine.answer import Answer
from kdmri_service.engine.catalogue import Catalogue
from kdmri_service.engine.scheduler import Scheduler
from kdmri_service.observability import metrics
from kdmri_service.shadow import process as shadow_process
from kdmri_service.shadow.replay import Sample, sample_of

from kdmri.operations.operation import BOTH
from kdmri.quality.comparison import Comparison

log = structlog.get_logger()


class Shadow:
    """The low-priority slot. `rate` in [0, 1] is the share of live requests that are replayed."""

    def __init__(self, catalogue: Catalogue, scheduler: Scheduler, *, rate: float) -> None:
        self.rate = rate
        self._catalogue = catalogue
        self._scheduler = scheduler
        scheduler.on_busy_change = self.pause_for_live_work
        # One sample runs, one waits.
        self._room = threading.BoundedSemaphore(2)
        self._stopping = threading.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="shadow")
        """Sends samples to the process, and waits for its comparisons."""
        self._process: SpawnProcess | None = None
        self._signals = threading.Lock()
        """Held while a signal is sent, so that the last change of live work decides the state of the process."""
        self._paused = False
        self._connection: Connection | None = None

    def sampler(self, answer: Answer) -> Callable[[], Sample] | None:
        """Return a function that copies the sample, or None if models can't be compared by this request.

        Requests for both roles were compared already. All models answer some inputs alike, and some models have no
        counterpart.
        """
        if answer.role == BOTH or not answer.job.compares_models:
            return None
        manifest = answer.result.manifest
        if not (counterpart := self._catalogue.counterpart(manifest)):
            return None
        served = self._catalogue.bundle(manifest.reference)
        return partial(sample_of, answer.operation, answer.job, answer.result, served=served, counterpart=counterpart)

    async def offer(self, answer: Answer) -> None:
        """Replay a live request if it is drawn. A coroutine, so that FastAPI runs it on the event loop."""
        # The draw comes first: whether models can be compared takes a look at the whole mask, and so a thread.
        if random.random() < self.rate and (sample := await run_sync(self.sampler, answer)):
            await self.submit(sample)

    async def submit(self, sample: Callable[[], Sample]) -> None:
        """Replay a sample when there is time, or drop it, counted, if another one waits already."""
        if self._stopping.is_set() or not self._room.acquire(blocking=False):
            metrics.SHADOW_DROPPED.inc()
            return
        try:
            # The sample is copied off the event loop, because it reads the upload; and the replay runs in the request's
            # context, so that its log lines carry the request's id.
            self._thread.submit(contextvars.copy_context().run, self._run, await run_sync(sample))
        except BaseException:
            self._room.release()
            raise

    def pause_for_live_work(self, busy: bool) -> None:
        """Stop the process when live work begins, and let it go on when that has ended."""
        with self._signals:
            self._paused = busy
            self._signal()

    def _signal(self) -> None:
        # The process may end between the check and the signal, and with it its number.
        if self._process and self._process.pid and self._process.exitcode is None:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGSTOP if self._paused else signal.SIGCONT)

    def close(self) -> None:
        """End at once: no comparison is worth waiting for."""
        # SIGKILL, because a stopped process takes no other signal before it goes on.
        self._stopping.set()
        if self._process:
            self._process.kill()
        self._thread.shutdown(wait=True, cancel_futures=True)
        if self._process:
            self._process.join()

    def _run(self, sample: Sample) -> None:
        epoch = self._scheduler.busy_epoch
        outcome: Comparison | str
        try:
            outcome = self._replay(sample)
        except (EOFError, OSError):
            # The process was killed, by `close` or for want of memory. The next sample starts another one.
            outcome = "ProcessEnded"
            self._connection = None
        finally:
            self._room.release()
        if isinstance(outcome, Comparison):
            # If a live request came in between, the measured times contain the time for which the process was stopped.
            timed = epoch == self._scheduler.busy_epoch
            metrics.record_shadow(sample.operation.name, outcome, timed=timed)
            log.info("shadow compared", operation=sample.operation.name, psnr_db=round(outcome.psnr_db, 2), timed=timed)
        elif not self._stopping.is_set():
            log.error("shadow failed", operation=sample.operation.name, error=outcome)

    def _replay(self, sample: Sample) -> Comparison | str:
        connection = self._connection or self._start()
        connection.send(sample)
        outcome: Comparison | str = connection.recv()
        return outcome

    def _start(self) -> Connection:
        """Start the process, with the first sample. It is spawned: a fork would inherit the locks of other threads."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        arguments = (theirs, self._catalogue.device, self._catalogue.threads, self._catalogue.backend)
        process = context.Process(target=shadow_process.main, args=arguments, daemon=True, name="shadow")
        process.start()
        theirs.close()
        # If Python ends without `close`, a stopped process does not react to being terminated; it can't ignore a kill.
        atexit.register(process.kill)
        with self._signals:
            self._process = process
            self._signal()
        if self._stopping.is_set():
            process.kill()
        self._connection = ours
        return ours
