"""The scheduler's account of work: what it says of live work is true, and changes when the work does."""

import asyncio
import threading
from collections.abc import Callable

import pytest
import torch
from kdmri_service.engine.scheduler import Scheduler
from kdmri_service.errors import Overloaded
from kdmri_service.observability import metrics
from kdmri_service.observability.observation import Observation
from prometheus_client import Gauge

from tests.e2e.serving import PATIENCE


class Gate:
    """Work that runs until it is let go, and tells when it began."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self._open = threading.Event()

    def __call__(self) -> str:
        self.begun.set()
        assert self._open.wait(PATIENCE)
        return "done"

    def open(self) -> None:
        self._open.set()

    async def until_begun(self) -> None:
        assert await asyncio.to_thread(self.begun.wait, PATIENCE)


def read(gauge: Gauge) -> float:
    (family,) = gauge.collect()
    return family.samples[0].value


def changes_of(scheduler: Scheduler) -> list[bool]:
    """Return a list that grows by each change that the scheduler reports."""
    changes: list[bool] = []
    scheduler.on_busy_change = changes.append
    return changes


def run(scheduler: Scheduler, work: Callable[[], str]) -> "asyncio.Task[str]":
    return asyncio.create_task(scheduler.run(work, Observation()))


async def until_waiting(scheduler: Scheduler, number: int) -> None:
    while scheduler.waiting != number:
        await asyncio.sleep(0)


def test_overlapping_requests_are_one_spell_of_work_and_each_spell_counts_once() -> None:
    scheduler = Scheduler(inferences=1, capacity=4)
    changes = changes_of(scheduler)
    for spell in (1, 2):
        with scheduler.request_in_flight():
            assert changes[-1]
            with scheduler.request_in_flight():
                assert scheduler.in_flight == 2
            assert changes == [True, False] * (spell - 1) + [True]
        assert changes == [True, False] * spell
        assert scheduler.busy_epoch == spell
    assert scheduler.in_flight == 0
    scheduler.close()


def test_a_request_that_fails_is_no_longer_in_flight() -> None:
    scheduler = Scheduler(inferences=1, capacity=4)
    changes = changes_of(scheduler)
    with pytest.raises(ValueError, match="an error"), scheduler.request_in_flight():
        raise ValueError("an error")
    assert (scheduler.in_flight, changes) == (0, [True, False])
    scheduler.close()


def test_a_turn_that_outlasts_its_request_is_live_work_until_it_ends() -> None:
    async def scenario() -> None:
        scheduler, gate = Scheduler(inferences=1, capacity=4), Gate()
        changes = changes_of(scheduler)
        request = run(scheduler, gate)
        await gate.until_begun()
        request.cancel()
        await asyncio.wait([request])
        assert request.cancelled()
        assert (scheduler.running, changes) == (1, [True])
        ended = asyncio.Event()
        scheduler.on_busy_change = lambda busy: ended.set()
        gate.open()
        await asyncio.wait_for(ended.wait(), PATIENCE)
        assert (scheduler.running, scheduler.busy_epoch) == (0, 1)
        scheduler.close()

    asyncio.run(scenario())


def test_a_request_that_waits_is_live_work_and_leaves_the_account_if_it_is_cancelled() -> None:
    async def scenario() -> None:
        scheduler, gate = Scheduler(inferences=1, capacity=4), Gate()
        first = run(scheduler, gate)
        await gate.until_begun()
        second = run(scheduler, Gate())
        await until_waiting(scheduler, 1)
        assert (read(metrics.QUEUE_DEPTH), read(metrics.IN_PROGRESS)) == (1, 1)
        second.cancel()
        await asyncio.wait([second])
        assert (scheduler.waiting, read(metrics.QUEUE_DEPTH)) == (0, 0)
        gate.open()
        assert await first == "done"
        assert (scheduler.running, read(metrics.IN_PROGRESS)) == (0, 0)
        scheduler.close()

    asyncio.run(scenario())


def test_as_many_turns_run_at_once_as_there_are_and_the_next_waits() -> None:
    async def scenario() -> None:
        scheduler = Scheduler(inferences=2, capacity=4)
        gates = [Gate() for _ in range(3)]
        requests = [run(scheduler, gate) for gate in gates]
        for gate in gates[:2]:
            await gate.until_begun()
        assert (scheduler.running, scheduler.waiting) == (2, 1)
        gates[1].open()
        assert await requests[1] == "done"
        await gates[2].until_begun()
        assert (scheduler.running, scheduler.waiting) == (2, 0)
        for gate in gates:
            gate.open()
        assert await asyncio.gather(*requests) == ["done"] * 3
        assert scheduler.running == 0
        scheduler.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("capacity", [0, 1, 2])
def test_the_queue_takes_its_capacity_and_refuses_the_next(capacity: int) -> None:
    async def scenario() -> None:
        scheduler, gate = Scheduler(inferences=1, capacity=capacity), Gate()
        assert read(metrics.QUEUE_CAPACITY) == capacity
        requests = [run(scheduler, gate)]
        await gate.until_begun()
        requests += [run(scheduler, gate) for _ in range(capacity)]
        await until_waiting(scheduler, capacity)
        with pytest.raises(Overloaded, match=f"among {capacity} waiting"):
            await scheduler.run(gate, Observation())
        gate.open()
        assert await asyncio.gather(*requests) == ["done"] * (1 + capacity)
        scheduler.close()

    asyncio.run(scenario())


def test_an_error_is_raised_for_its_request_and_the_turn_is_free_again() -> None:
    async def scenario() -> None:
        scheduler = Scheduler(inferences=1, capacity=4)

        def fail() -> str:
            raise RuntimeError("the work's own")

        with pytest.raises(RuntimeError, match="the work's own"):
            await scheduler.run(fail, Observation())
        assert await scheduler.run(lambda: "next", Observation()) == "next"
        assert (scheduler.running, scheduler.waiting) == (0, 0)
        scheduler.close()

    asyncio.run(scenario())


def test_the_wait_for_a_turn_is_time_in_the_queue() -> None:
    async def scenario() -> None:
        scheduler, gate, observation = Scheduler(inferences=1, capacity=4), Gate(), Observation()
        first = run(scheduler, gate)
        await gate.until_begun()
        second = asyncio.create_task(scheduler.run(lambda: "second", observation))
        await until_waiting(scheduler, 1)
        assert "queue" not in observation.seconds
        gate.open()
        await asyncio.gather(first, second)
        assert observation.seconds["queue"] > 0
        scheduler.close()

    asyncio.run(scenario())


def test_inference_threads_have_their_number_of_threads_and_others_one() -> None:
    before = torch.get_num_threads()

    async def scenario() -> None:
        scheduler = Scheduler(inferences=2, capacity=4)
        assert await scheduler.prepare(lambda: "loaded", threads=3) == "loaded"
        together = threading.Barrier(2)

        def threads() -> int:
            together.wait(PATIENCE)
            return torch.get_num_threads()

        found = await asyncio.gather(*(scheduler.run(threads, Observation()) for _ in range(2)))
        assert (found, torch.get_num_threads()) == ([3, 3], 1)
        scheduler.close()

    try:
        asyncio.run(scenario())
    finally:
        torch.set_num_threads(before)
