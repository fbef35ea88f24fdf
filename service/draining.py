"""Draining: how the service ends well. Readiness goes first, requests in flight finish, new ones are refused."""

import asyncio
import os
import select
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import FrameType
from typing import Any

import structlog
import uvicorn

log = structlog.get_logger()

# At most a second in all: a flood of connections must not keep the port open for ever.
ACCEPT_ROUNDS = 100
ACCEPT_SECONDS = 0.01
"""Time between two looks at the connections that wait to be accepted before the port is closed."""
LINGER_SECONDS = 0.5
"""Time that a connection accepted just before the port is closed has to send its request."""

Handler = Callable[[int, FrameType | None], Any] | int | signal.Handlers | None


class Drain:
    """Requests in flight, and whether the service is ending.

    On SIGTERM the service keeps listening for at least `delay` seconds, in which a load balancer sees that it is not
    ready, and until all requests in flight are answered, but for `grace` seconds at most. Then it closes its port, and
    answers for LINGER_SECONDS more: a client whose connection was accepted gets a response. Only then does the server
    see the signal and close the connections that are left.
    """

    def __init__(self, *, delay: float, grace: float) -> None:
        self.delay = delay
        self.grace = grace
        self.draining = False
        self._in_flight = 0
        # A service without requests may end at once, so the event begins as set.
        self._idle = asyncio.Event()
        self._idle.set()

    @contextmanager
    def request(self) -> Iterator[None]:
        """Count a request from its first byte until its response is sent."""
        self._in_flight += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._idle.set()

    async def wait(self) -> None:
        """Refuse new requests, and return once the service may end."""
        self.draining = True
        log.info("draining", requests=self._in_flight)
        try:
            # The delay counts towards the grace: an orchestrator kills after one deadline, not after a sum.
            async with asyncio.timeout(self.grace):
                await asyncio.sleep(self.delay)
                await self._idle.wait()
        except TimeoutError:
            log.warning("requests are cut off", requests=self._in_flight, after_seconds=self.grace)

    @contextmanager
    def on_sigterm(self) -> Iterator[None]:
        """Delay SIGTERM inside: the handler that was installed before gets the signal when the service has drained.

        A second SIGTERM ends the service at once. Outside the main thread, where Python allows no handlers, this does
        nothing.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = signal.getsignal(signal.SIGTERM)
        loop = asyncio.get_running_loop()
        tasks: set[asyncio.Task[None]] = set()

        async def drain(frame: FrameType | None) -> None:
            await self.wait()
            # The handler found before is uvicorn's own, a method of its server; under another server only it is called.
            if isinstance(server := getattr(previous, "__self__", None), uvicorn.Server):
                await _close_port(server)
                await asyncio.sleep(LINGER_SECONDS)
            _call(previous, frame)

        def start() -> None:
            # The set keeps the task alive: the event loop itself holds only a weak reference.
            tasks.add(asyncio.ensure_future(drain(None)))

        def handle(_: int, frame: FrameType | None) -> None:
            if self.draining:
                _call(previous, frame)
            else:
                loop.call_soon_threadsafe(start)

        signal.signal(signal.SIGTERM, handle)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, previous)


async def _close_port(server: uvicorn.Server) -> None:
    """Stop listening, in this process and in all others that share the socket; accepted connections go on.

    Closing alone would not do with several workers: the processes that still hold the socket would keep it listening,
    and connections would queue up there that nobody accepts.
    """
    for listener in server.servers:
        with ExitStack() as stack:
            copies = [stack.enter_context(socket.socket(fileno=os.dup(s.fileno()))) for s in listener.sockets]
            # poll(2), not select(2), which knows no descriptor above 1023: a busy service has more.
            poller = select.poll()
            for copy in copies:
                poller.register(copy, select.POLLIN)
            for _ in range(ACCEPT_ROUNDS):
                # The kernel resets connections that nobody has accepted yet: let the event loop accept them first.
                if not poller.poll(0):
                    break
                await asyncio.sleep(ACCEPT_SECONDS)
            # The event loop must stop watching a socket before it is shut down.
            listener.close()
            for copy in copies:
                with suppress(OSError):
                    # Another worker may have been faster.
                    copy.shutdown(socket.SHUT_RDWR)


def _call(handler: Handler, frame: FrameType | None) -> None:
    # SIG_DFL and SIG_IGN are members of an enumeration: there is nothing to call.
    if callable(handler):
        handler(signal.SIGTERM, frame)
