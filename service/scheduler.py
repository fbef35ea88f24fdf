"""Inference off the event loop, behind a bounded queue: what has no place is refused at once, not kept waiting."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from typing import TypeVar

from service import telemetry
from service.errors import Overloaded
from service.telemetry import Observation

Answer = TypeVar("Answer")


class Scheduler:
    """`inferences` at a time, `capacity` requests waiting for their turn."""

    def __init__(self, *, inferences: int, capacity: int) -> None:
        self.capacity = capacity
        self.waiting = 0
        self.running = 0
        self.attended = 0
        self.spells = 0
        """Times that live work began while there was none: where two readings agree, none came in between."""
        self.busy_changed: Callable[[bool], None] = lambda busy: None
        """Called where work begins while there was none, and where there is none any more."""
        self._busy = False
        self._free = asyncio.Semaphore(inferences)
        self._threads = ThreadPoolExecutor(inferences, thread_name_prefix="inference")
        telemetry.QUEUE_CAPACITY.set(capacity)

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

    async def run(self, job: Callable[[], Answer], observation: Observation) -> Answer:
        """The job's answer, once there was time for it. Raises Overloaded where the queue is full."""
        if self._free.locked() and self.waiting >= self.capacity:
            raise Overloaded(
                f"expected a free place among {self.capacity} waiting requests, all are taken: try again later"
            )
        with observation("queue"):
            await self._turn()
        # Shielded: a thread can't be stopped, so the place is given back when the job ends, not when its client leaves.
        task = asyncio.ensure_future(self._work(job))
        task.add_done_callback(_seen)
        return await asyncio.shield(task)

    async def _turn(self) -> None:
        self.waiting += 1
        self._tell()
        try:
            await self._free.acquire()
            self.running += 1
        finally:
            self.waiting -= 1
            self._tell()

    async def _work(self, job: Callable[[], Answer]) -> Answer:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, copy_context().run, job)
        finally:
            self.running -= 1
            self._free.release()
            self._tell()

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


def _seen(task: "asyncio.Future[Answer]") -> None:
    """A job whose client has left may fail without asyncio's complaint that nobody asked how it ended."""
    if not task.cancelled():
        task.exception()
