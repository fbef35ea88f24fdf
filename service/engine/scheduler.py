"""Inference off the event loop, behind a bounded queue: what has no place is refused at once, not kept waiting."""

import asyncio
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from functools import partial
from threading import Barrier
from typing import Any, TypeVar

import structlog
import torch
from kdmri_service.observability import observation as telemetry
from kdmri_service.observability.observation import Observation
from kdmri_service.transports.http.problems import Overloaded

log = structlog.get_logger()

Answer = TypeVar("Answer")
Job = Callable[[], Answer]
Together = Callable[[Sequence[Any]], Sequence[Answer]]
"""The answers of several jobs, made at once."""


@dataclass(eq=False)
class _Request:
    """A job, from its arrival to its answer."""

    job: Job[Any]
    alike: Hashable
    together: Together[Any] | None
    patient: bool
    """Whether it still waits for company, though its turn may have come."""
    context: Context = field(default_factory=copy_context)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    answer: "asyncio.Future[Any]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Scheduler:
    """`inferences` at a time, `capacity` requests waiting for their turn.

    Requests that are alike and wait at the same time share a turn, up to `batch` of them. For such company a request
    waits `patience` seconds at most, and not at all where it is alone in the service or the queue is full.
    """

    def __init__(self, *, inferences: int, capacity: int, batch: int = 1, patience: float = 0) -> None:
        self.capacity = capacity
        self.batch = batch
        self.patience = patience
        self.running = 0
        self.attended = 0
        self.spells = 0
        """Times that live work began while there was none: where two readings agree, none came in between."""
        self.busy_changed: Callable[[bool], None] = lambda busy: None
        """Called where work begins while there was none, and where there is none any more."""
        self._busy = False
        self._queue: list[_Request] = []
        """In order of arrival."""
        self._idle = inferences
        self._threads = ThreadPoolExecutor(inferences, thread_name_prefix="inference")
        telemetry.QUEUE_CAPACITY.set(capacity)

    async def prepare(self, job: Job[Answer], *, threads: int) -> Answer:
        """The answer of a job that comes before all requests. Each inference computes on `threads` threads, and from
        then on any other thread of this process by itself.

        OpenMP keeps a pool for every thread that asks for it, and lets none of them wait awake while the pools have
        more threads than there are cores (docs/decisions/0006).
        """
        loop, all_started = asyncio.get_running_loop(), Barrier(self._idle)

        def start() -> None:
            torch.set_num_threads(threads)
            # A thread looks for its number as it first needs it, and would find one that was said later.
            torch.get_num_threads()
            all_started.wait()

        await asyncio.gather(*(loop.run_in_executor(self._threads, start) for _ in range(self._idle)))
        answer = await loop.run_in_executor(self._threads, job)
        # Holds for this thread, and for those that begin later.
        torch.set_num_threads(1)
        return answer

    @property
    def waiting(self) -> int:
        """Requests that wait for their turn."""
        return len(self._queue)

    @contextmanager
    def attending(self) -> Iterator[None]:
        """A live request is read, inferred and written inside: its jobs are not all of its work."""
        self.attended += 1
        self._tell()
        try:
            yield
        finally:
            self.attended -= 1
            self._tell()

    async def run(
        self,
        job: Job[Answer],
        observation: Observation,
        *,
        alike: Hashable = None,
        together: Together[Answer] | None = None,
    ) -> Answer:
        """The job's answer, once there was time for it. Raises Overloaded where the queue is full.

        Jobs equal in what makes them `alike` (None: like no other) may be answered `together`, by the first one's.
        Where that fails each runs by itself, so that an error is that of its own request.
        """
        if not self._idle and self.waiting >= self.capacity:
            raise Overloaded(
                f"expected a free place among {self.capacity} waiting requests, all are taken: try again later"
            )
        patient = alike is not None and self.attended > 1
        request = _Request(job, object() if alike is None else alike, together, patient)
        # A client that has left does not ask how its job ended.
        request.answer.add_done_callback(_seen)
        self._queue.append(request)
        if request.patient:
            asyncio.get_running_loop().call_later(self.patience, self._hurry, request)
        self._begin()
        try:
            with observation("queue"):
                await request.begun.wait()
            answer: Answer = await request.answer
        except asyncio.CancelledError:
            # A thread can't be stopped: where it has begun, its place is given back when it ends.
            request.answer.cancel()
            if request in self._queue:
                self._queue.remove(request)
                self._tell()
            raise
        return answer

    def _hurry(self, request: _Request) -> None:
        request.patient = False
        self._begin()

    def _begin(self) -> None:
        """Give the free turns to those who wait longest."""
        while self._idle and (batch := self._next()):
            self._queue = [request for request in self._queue if request not in batch]
            self._idle -= 1
            self.running += len(batch)
            telemetry.BATCH_SIZE.observe(len(batch))
            for request in batch:
                request.begun.set()
            jobs = [request.job for request in batch]
            run = partial(batch[0].context.run, _outcomes, jobs, batch[0].together)
            ended = asyncio.get_running_loop().run_in_executor(self._threads, run)
            ended.add_done_callback(partial(self._end, batch))
        self._tell()

    def _next(self) -> list[_Request]:
        """Who shares the next turn; none where all may still get company."""
        for first in self._queue:
            batch = [request for request in self._queue if request.alike == first.alike][: self.batch]
            if len(batch) == self.batch or not first.patient or self.waiting > self.capacity:
                return batch
        return []

    def _end(self, batch: Sequence[_Request], ended: "asyncio.Future[list[Any]]") -> None:
        self._idle += 1
        self.running -= len(batch)
        for request, outcome in zip(batch, ended.result(), strict=True):
            if request.answer.cancelled():
                continue
            if isinstance(outcome, BaseException):
                request.answer.set_exception(outcome)
            else:
                request.answer.set_result(outcome)
        self._begin()

    def _tell(self) -> None:
        telemetry.QUEUE_DEPTH.set(self.waiting)
        telemetry.IN_PROGRESS.set(self.running)
        # A job may outlive its request, whose client has left.
        busy = self.attended + self.waiting + self.running > 0
        if busy != self._busy:
            self._busy = busy
            self.spells += busy
            self.busy_changed(busy)

    def close(self) -> None:
        """Let running jobs end; start no more."""
        self._threads.shutdown(wait=True, cancel_futures=True)


def _outcomes(jobs: Sequence[Job[Answer]], together: Together[Answer] | None) -> Sequence[Answer | BaseException]:
    """What became of each job: its answer, or the error that it raised."""
    if together and len(jobs) > 1:
        try:
            return together(jobs)
        except Exception as error:
            log.warning("a batch is taken apart", requests=len(jobs), error=type(error).__name__)
    return [_outcome(job) for job in jobs]


def _outcome(job: Job[Answer]) -> Answer | BaseException:
    try:
        return job()
    except BaseException as error:
        return error


def _seen(answer: "asyncio.Future[Any]") -> None:
    """An error counts as asked for, without asyncio's complaint that nobody did."""
    if not answer.cancelled():
        answer.exception()
