"""Turns at a few workers, shared fairly between clients.

Clients take turns one after the other, however many requests each has waiting. A client whose files ended two workers
within a minute may occupy one worker at a time, and never the last free one: others always find a worker.
"""

import asyncio
import time
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from kdmri_service.errors import Overloaded

STRIKES = 2
"""Ended workers that make a client suspect: one may be bad luck with a damaged file."""
FORGIVEN_AFTER = 60
"""Seconds after which a strike no longer counts."""


class FairTurns:
    """At most `size` turns at a time, all asked for in one event loop."""

    def __init__(self, size: int, *, capacity: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._size, self._capacity, self._clock = size, capacity, clock
        self._running: Counter[str] = Counter()
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._strikes: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=STRIKES))

    @asynccontextmanager
    async def turn(self, client: str) -> AsyncIterator[None]:
        """Wait for a turn and hold it.

        Raises:
            Overloaded: As many requests as may wait are waiting.
        """
        if sum(map(len, self._waiting.values())) >= self._capacity:
            raise Overloaded(f"expected at most {self._capacity} uploads to wait for a reader, got one more: try later")
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(client, deque()).append(ready)
        self._dispatch()
        try:
            await ready
        except asyncio.CancelledError:
            # The turn was given in the moment of the cancellation: it has to be passed on.
            if ready.done() and not ready.cancelled():
                self._end(client)
            raise
        try:
            yield
        finally:
            self._end(client)

    def strike(self, client: str) -> None:
        """Record that a file of this client ended a worker."""
        self._strikes[client].append(self._clock())

    def _end(self, client: str) -> None:
        self._running[client] -= 1
        self._dispatch()

    def _dispatch(self) -> None:
        """Give free turns to those who wait, the client that was served longest ago first."""
        # A list, because clients leave the dictionary and move to its end on the way.
        for client in list(self._waiting):
            waiting = self._waiting[client]
            while waiting and waiting[0].done():
                waiting.popleft()
            if waiting and self._may_start(client):
                waiting.popleft().set_result(None)
                self._running[client] += 1
                # To the end of the line, which a dictionary keeps in the order of insertion.
                self._waiting[client] = self._waiting.pop(client)
            if not waiting:
                del self._waiting[client]
        # A round gives each client one turn; there may be enough free workers for another round.
        if any(self._may_start(client) for client in self._waiting):
            self._dispatch()

    def _may_start(self, client: str) -> bool:
        free = self._size - self._running.total()
        if not self._is_suspect(client):
            return free > 0
        return self._running[client] == 0 and free > (1 if self._size > 1 else 0)

    def _is_suspect(self, client: str) -> bool:
        strikes = self._strikes.get(client, deque())
        return len(strikes) == STRIKES and self._clock() - strikes[0] < FORGIVEN_AFTER
