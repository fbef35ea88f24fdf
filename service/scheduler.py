"""Inference off the event loop, behind a bounded queue: what has no place is refused at once, not kept waiting."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from service import telemetry
from service.errors import Overloaded
from service.telemetry import Observation

Answer = TypeVar("Answer")


class Scheduler:
    """`workers` inferences at a time, `capacity` requests waiting for one."""

    def __init__(self, *, workers: int, capacity: int) -> None:
        self.capacity = capacity
        self.waiting = 0
        self._free = asyncio.Semaphore(workers)
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="inference")
        telemetry.QUEUE_CAPACITY.set(capacity)

    async def run(self, job: Callable[[], Answer], observation: Observation) -> Answer:
        """The job's answer, once a worker had time for it. Raises Overloaded where the queue is full."""
        if self._free.locked() and self.waiting >= self.capacity:
            raise Overloaded(
                f"expected a free place among {self.capacity} waiting requests, all are taken: try again later"
            )
        with observation("queue"):
            await self._turn()
        # Shielded: a thread can't be stopped, so the place is given back when the job ends, not when its client leaves.
        task = asyncio.ensure_future(self._work(job))
        return await asyncio.shield(task)

    async def _turn(self) -> None:
        self.waiting += 1
        telemetry.QUEUE_DEPTH.set(self.waiting)
        try:
            await self._free.acquire()
        finally:
            self.waiting -= 1
            telemetry.QUEUE_DEPTH.set(self.waiting)

    async def _work(self, job: Callable[[], Answer]) -> Answer:
        telemetry.IN_PROGRESS.inc()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, job)
        finally:
            telemetry.IN_PROGRESS.dec()
            self._free.release()

    def close(self) -> None:
        """Let running jobs end; start no more."""
        self._threads.shutdown(wait=True, cancel_futures=True)
