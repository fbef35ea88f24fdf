"""The scheduler: inference off the event loop, behind a bounded queue. A request that finds it full is refused."""

import asyncio
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from functools import partial
from threading import Barrier
from typing import TypeVar, cast, overload

import structlog
import torch
from kdmri_service.errors import Overloaded
from kdmri_service.observability import metrics
from kdmri_service.observability.observation import Observation

log = structlog.get_logger()

Outcome = TypeVar("Outcome")
Work = TypeVar("Work", bound=Callable[[], object])
RunBatch = Callable[[Sequence[Callable[[], object]]], Sequence[object]]


@dataclass(eq=False)
class _Request:
    """Work of any type, from its arrival in the queue to its outcome."""

    work: Callable[[], object]
    batch_key: Hashable
    run_batch: RunBatch | None
    may_wait: bool
    """True while it waits for requests to share its turn with, though a turn may be free."""
    context: Context = field(default_factory=copy_context)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    outcome: "asyncio.Future[object]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Scheduler:
    """`inferences` turns at a time, and up to `capacity` requests that wait for one.

    Requests of one batch key that wait at the same time share a turn, up to `batch` of them. A request waits up to
    `patience` seconds for others to share with, and not at all if it is alone in the service or the queue is full.
    """

    def __init__(self, *, inferences: int, capacity: int, batch: int = 1, patience: float = 0) -> None:
        self.capacity = capacity
        self.batch = batch
        self.patience = patience
        self.running = 0
        self.in_flight = 0
        """Live requests between the end of their upload and the end of their answer's encoding."""
        self.busy_epoch = 0
        """Number of times that live work began while there was none. If two readings agree, none began in between."""
        self.on_busy_change: Callable[[bool], None] = lambda busy: None
        """Called when live work begins while there was none, and when the last of it ends."""
        self._busy = False
        self._queue: list[_Request] = []
        """In order of arrival."""
        self._free_turns = inferences
        self._threads = ThreadPoolExecutor(inferences, thread_name_prefix="inference")
        metrics.QUEUE_CAPACITY.set(capacity)

    async def prepare(self, work: Callable[[], Outcome], *, threads: int) -> Outcome:
        """Set the thread counts of all inference threads, then run work that precedes all requests.

        OpenMP keeps a pool for every thread that uses it, and stops letting idle workers spin once all pools together
        have more threads than there are cores (docs/decisions/0006). So inference threads compute on `threads` threads
        each, and every other thread of this process on one.

        Args:
            work: Runs in an inference thread, such as loading the models.
            threads: Threads of one inference.

        Returns:
            What the work returns.
        """
        loop, all_started = asyncio.get_running_loop(), Barrier(self._free_turns)

        def start() -> None:
            torch.set_num_threads(threads)
            # torch reads the thread count lazily, on first use in each thread: ask for it now, so that the later
            # set_num_threads(1) for other threads does not apply to this one.
            torch.get_num_threads()
            all_started.wait()

        await asyncio.gather(*(loop.run_in_executor(self._threads, start) for _ in range(self._free_turns)))
        outcome = await loop.run_in_executor(self._threads, work)
        # This applies to this thread, and to those that start later.
        torch.set_num_threads(1)
        return outcome

    @property
    def waiting(self) -> int:
        """Number of requests that wait for their turn."""
        return len(self._queue)

    @contextmanager
    def request_in_flight(self) -> Iterator[None]:
        """Count a live request as work from parsing to encoding: its inferences are not all of it."""
        self.in_flight += 1
        self._publish()
        try:
            yield
        finally:
            self.in_flight -= 1
            self._publish()

    @overload
    async def run(self, work: Callable[[], Outcome], observation: Observation) -> Outcome: ...

    @overload
    async def run(
        self,
        work: Work,
        observation: Observation,
        *,
        batch_key: Hashable,
        run_batch: Callable[[Sequence[Work]], Sequence[Outcome]],
    ) -> Outcome: ...

    async def run(
        self,
        work: Callable[[], object],
        observation: Observation,
        *,
        batch_key: Hashable = None,
        run_batch: Callable[[Sequence[Work]], Sequence[object]] | None = None,
    ) -> object:
        """Run work in an inference thread once there is a free turn.

        Args:
            work: Runs by itself, or is passed to `run_batch` together with other work.
            observation: Measures the time in the queue.
            batch_key: Work of equal keys may share a turn; None never does.
            run_batch: Runs a batch in one pass. If it fails, each work of the batch runs by itself, so that an error is
                raised only for the request that causes it.

        Returns:
            What the work returns.

        Raises:
            Overloaded: The queue is full.
        """
        if not self._free_turns and self.waiting >= self.capacity:
            raise Overloaded(
                f"expected a free place among {self.capacity} waiting requests, all are taken: try again later"
            )
        may_wait = batch_key is not None and self.in_flight > 1
        # An object of its own equals no other key.
        key = object() if batch_key is None else batch_key
        # Work of equal keys comes from one caller, whose `run_batch` takes exactly this type.
        request = _Request(work, key, cast(RunBatch | None, run_batch), may_wait)
        request.outcome.add_done_callback(_retrieve)
        self._queue.append(request)
        if request.may_wait:
            asyncio.get_running_loop().call_later(self.patience, self._stop_waiting, request)
        self._start_turns()
        try:
            with observation("queue"):
                await request.begun.wait()
            outcome = await request.outcome
        except asyncio.CancelledError:
            # A running thread can't be stopped: its turn becomes free when it ends.
            request.outcome.cancel()
            if request in self._queue:
                self._queue.remove(request)
                self._publish()
            raise
        return outcome

    def _stop_waiting(self, request: _Request) -> None:
        request.may_wait = False
        self._start_turns()

    def _start_turns(self) -> None:
        """Give the free turns to the requests that have waited longest."""
        while self._free_turns and (batch := self._next_batch()):
            self._queue = [request for request in self._queue if request not in batch]
            self._free_turns -= 1
            self.running += len(batch)
            metrics.BATCH_SIZE.observe(len(batch))
            # The time in the queue ends here, before the thread begins: a batch's first stage may outrun the event
            # loop.
            for request in batch:
                request.begun.set()
            first = batch[0]
            # The thread runs in the context of the first request, so that log lines carry a request's id.
            run = partial(first.context.run, _outcomes, [request.work for request in batch], first.run_batch)
            ended = asyncio.get_running_loop().run_in_executor(self._threads, run)
            ended.add_done_callback(partial(self._end_turn, batch))
        self._publish()

    def _next_batch(self) -> list[_Request]:
        """Return the requests that share the next turn, or none if all of them may still wait for others."""
        # In order of arrival, so that a request is overtaken only by those that join a batch before it.
        for first in self._queue:
            batch = [request for request in self._queue if request.batch_key == first.batch_key][: self.batch]
            if len(batch) == self.batch or not first.may_wait or self.waiting > self.capacity:
                return batch
        return []

    def _end_turn(self, batch: Sequence[_Request], ended: "asyncio.Future[Sequence[object]]") -> None:
        self._free_turns += 1
        self.running -= len(batch)
        for request, outcome in zip(batch, ended.result(), strict=True):
            if request.outcome.cancelled():
                continue
            if isinstance(outcome, BaseException):
                request.outcome.set_exception(outcome)
            else:
                request.outcome.set_result(outcome)
        self._start_turns()

    def _publish(self) -> None:
        metrics.QUEUE_DEPTH.set(self.waiting)
        metrics.IN_PROGRESS.set(self.running)
        # A turn may outlast its request, if the client has disconnected.
        busy = self.in_flight + self.waiting + self.running > 0
        if busy != self._busy:
            self._busy = busy
            self.busy_epoch += busy
            self.on_busy_change(busy)

    def close(self) -> None:
        """Wait for the turns that run; start no more."""
        self._threads.shutdown(wait=True, cancel_futures=True)


def _outcomes(works: Sequence[Callable[[], object]], run_batch: RunBatch | None) -> Sequence[object]:
    """Return the outcome of each work: what it returned, or the error that it raised."""
    if run_batch and len(works) > 1:
        try:
            return run_batch(works)
        except Exception as error:
            log.warning("a batch is split up", requests=len(works), error=type(error).__name__)
    return [_outcome(work) for work in works]


def _outcome(work: Callable[[], object]) -> object:
    # An error travels as a value: raised in the thread, it would end the whole batch.
    try:
        return work()
    except BaseException as error:
        return error


def _retrieve(outcome: "asyncio.Future[object]") -> None:
    """Retrieve the error of an outcome: asyncio logs errors that nobody retrieves, such as a cancelled request's."""
    if not outcome.cancelled():
        outcome.exception()
