"""Turns are shared fairly, and a client whose files end workers never takes the last one."""

import asyncio
from collections.abc import Callable, Coroutine

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kdmri_service.engine.parsing.turns import FORGIVEN_AFTER, FairTurns
from kdmri_service.errors import Overloaded


class Clock:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def settle() -> None:
    """Let every task that can go on do so."""
    for _ in range(20):
        await asyncio.sleep(0)


def started_in_order(turns: FairTurns, clients: list[str]) -> list[str]:
    """Ask for a turn for each client in order, and return them in the order in which turns began."""
    order: list[str] = []

    async def request(client: str) -> None:
        async with turns.turn(client):
            order.append(client)
            await asyncio.sleep(0)

    async def scenario() -> None:
        await asyncio.gather(*map(request, clients))

    asyncio.run(scenario())
    return order


def run(scenario: Callable[[], Coroutine[object, object, None]]) -> None:
    """Run a scenario in an event loop of its own."""
    asyncio.run(scenario())


def test_clients_take_turns_however_many_requests_each_has() -> None:
    order = started_in_order(FairTurns(1, capacity=99), ["a"] * 6 + ["b", "c"])
    assert order.index("b") <= 2
    assert order.index("c") <= 3
    assert sorted(order) == ["a"] * 6 + ["b", "c"]


@given(
    clients=st.lists(st.sampled_from("abcd"), max_size=30),
    size=st.integers(1, 4),
    strikes=st.lists(st.sampled_from("ab"), max_size=4),
)
def test_everybody_gets_a_turn(clients: list[str], size: int, strikes: list[str]) -> None:
    turns = FairTurns(size, capacity=99)
    for client in strikes:
        turns.strike(client)
    assert sorted(started_in_order(turns, clients)) == sorted(clients)


def test_a_suspect_never_takes_the_last_free_worker() -> None:
    async def scenario() -> None:
        turns = FairTurns(2, capacity=99, clock=Clock())
        turns.strike("bad")
        turns.strike("bad")
        gate, order = asyncio.Event(), []

        async def hold(client: str) -> None:
            async with turns.turn(client):
                order.append(client)
                await gate.wait()

        tasks = [asyncio.ensure_future(hold(client)) for client in ("bad", "bad", "good")]
        await settle()
        assert order == ["bad", "good"]
        gate.set()
        await asyncio.gather(*tasks)
        assert order == ["bad", "good", "bad"]

    run(scenario)


def test_strikes_are_forgiven() -> None:
    async def scenario() -> None:
        clock = Clock()
        turns = FairTurns(2, capacity=99, clock=clock)
        turns.strike("once bad")
        turns.strike("once bad")
        gate, started = asyncio.Event(), []

        async def hold(client: str) -> None:
            async with turns.turn(client):
                started.append(client)
                await gate.wait()

        tasks = [asyncio.ensure_future(hold("once bad")) for _ in range(2)]
        await settle()
        assert started == ["once bad"]
        clock.now = FORGIVEN_AFTER
        # The next request has the line looked at again, and by now both workers are open to this client.
        tasks.append(asyncio.ensure_future(hold("another")))
        await settle()
        assert started == ["once bad", "once bad"]
        gate.set()
        await asyncio.gather(*tasks)

    run(scenario)


def test_a_cancelled_request_leaves_its_turn_to_the_next() -> None:
    async def scenario() -> None:
        turns = FairTurns(1, capacity=99)
        async with turns.turn("a"):
            waiting = asyncio.ensure_future(turns.turn("b").__aenter__())
            await settle()
            waiting.cancel()
            await settle()
        # The turn itself is kept: a context that nobody holds would end with its reference.
        following = turns.turn("c")
        entered = asyncio.ensure_future(following.__aenter__())
        await settle()
        assert entered.done()

    run(scenario)


def test_too_many_waiting_are_refused() -> None:
    async def scenario() -> None:
        turns = FairTurns(1, capacity=1)
        async with turns.turn("a"):
            waiting = asyncio.ensure_future(turns.turn("b").__aenter__())
            await settle()
            with pytest.raises(Overloaded, match="at most 1 uploads"):
                await turns.turn("c").__aenter__()
            waiting.cancel()

    run(scenario)
