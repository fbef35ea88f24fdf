"""Slow, idle and stalled clients are disconnected and keep nobody else out. The tests turn the clock by `look`."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import cast

import pytest
import uvicorn
from kdmri_service.transports.http.connections import ConnectionLimits, LimitedProtocol, raise_descriptor_limit
from starlette.types import Receive, Scope, Send

from tests.e2e.serving import until

PATIENCE = 60
LARGE = 2**25
GOOD = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
UPLOAD = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n"


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Receive a body and answer: much for /large, at once and unread for /refuse."""
    if scope["type"] != "http":
        return
    while scope["path"] != "/refuse" and (message := await receive()).get("more_body"):
        assert message["type"] == "http.request"
    body = bytes(LARGE) if scope["path"] == "/large" else b"served"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


class Server:
    """A server with limits, in a thread."""

    def __init__(self, limits: ConnectionLimits, tls: ssl.SSLContext | None) -> None:
        protocol = cast(type[asyncio.Protocol], partial(LimitedProtocol, limits=limits))
        self.uvicorn = uvicorn.Server(
            uvicorn.Config(
                application,
                port=0,
                http=protocol,
                lifespan="off",
                log_config=None,
                timeout_keep_alive=3600,
                ssl_context_factory=None if tls is None else lambda *_: tls,
            )
        )
        self.thread = threading.Thread(target=self.uvicorn.run)

    @property
    def port(self) -> int:
        """Port that it listens on."""
        return int(self.uvicorn.servers[0].sockets[0].getsockname()[1])

    def connections(self) -> list[LimitedProtocol]:
        """Return the connections as they are now."""
        return [cast(LimitedProtocol, each) for each in list(self.uvicorn.server_state.connections)]

    def phases(self) -> list[str]:
        """Return what each connection waits for."""
        return sorted(connection.phase() for connection in self.connections())

    def look(self) -> None:
        """Have the server look at all connections, as it does at the end of a window."""
        looked = threading.Event()

        def at_all() -> None:
            for connection in self.connections():
                connection.look()
            looked.set()

        self.connections()[0].loop.call_soon_threadsafe(at_all)
        assert looked.wait(PATIENCE)

    def connect(self, first: bytes = b"") -> socket.socket:
        """Open a connection and send something."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
        connection.sendall(first)
        return connection


@contextmanager
def serving(limits: ConnectionLimits, tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    """Provide a running server."""
    server = Server(limits, tls)
    server.thread.start()
    try:
        until(lambda: server.uvicorn.started)
        yield server
    finally:
        server.uvicorn.should_exit = server.uvicorn.force_exit = True
        server.thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    """A server whose windows end only when the test says so."""
    with serving(ConnectionLimits(total=200, per_client=150, window_seconds=3600, bytes_per_second=1)) as server:
        yield server


def answer_of(connection: socket.socket) -> bytes:
    """Return all that the server sends until it closes."""
    received = b""
    try:
        while piece := connection.recv(2**16):
            received += piece
    except ConnectionResetError:
        pass
    return received


def is_served(server: Server) -> bool:
    """Return whether a good client gets its answer."""
    with server.connect(GOOD) as client:
        return answer_of(client).endswith(b"served")


def test_fifty_slow_uploads_and_hundreds_of_idle_connections_keep_nobody_out(server: Server) -> None:
    with ExitStack() as stack:
        slow = [stack.enter_context(server.connect(UPLOAD + b"x")) for _ in range(50)]
        until(lambda: server.phases().count("body") == 50)
        for _ in range(400):
            stack.enter_context(server.connect())
        assert is_served(server)
        assert len(server.connections()) <= 151
        until(lambda: is_gone_after_look(server))
        assert all(answer_of(upload).startswith(b"HTTP/1.1 408 ") for upload in slow)
        assert is_served(server)


@pytest.mark.parametrize(
    "beginning", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nhost: x\r\n", b"GET / HTTP/1.1\r\na: " + b"b" * 99]
)
def test_headers_that_do_not_come_end_the_connection(server: Server, beginning: bytes) -> None:
    with server.connect(beginning) as slow:
        until(lambda: server.phases() == ["headers" if beginning else "idle"])
        assert is_served(server)
        until(lambda: is_gone_after_look(server))
        assert answer_of(slow).startswith(b"HTTP/1.1 408 ")


def test_headers_without_an_end_are_refused(server: Server) -> None:
    with server.connect(b"GET / HTTP/1.1\r\n") as endless:
        endless.settimeout(PATIENCE)
        with pytest.raises(OSError):  # noqa: PT012
            while True:
                endless.sendall(b"x: " + b"y" * 1000 + b"\r\n")
        assert is_served(server)


def test_an_upload_that_goes_on_is_not_cut_off(server: Server) -> None:
    with server.connect(UPLOAD) as steady:
        for piece in range(1, 10):
            steady.sendall(bytes(10_000))
            until(partial(has_received, server, 10_000 * piece))
            server.look()
        steady.sendall(bytes(10_000) + GOOD)
        assert answer_of(steady).count(b"served") == 2


def test_a_reader_that_stalls_is_disconnected(server: Server) -> None:
    with server.connect(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n") as stalled:
        until(lambda: server.phases() == ["reading"])
        # The kernel's buffers fill first; then nothing moves any more.
        until(lambda: is_gone_after_look(server))
        assert len(answer_of(stalled)) < LARGE
        assert is_served(server)


def has_received(server: Server, size: int) -> bool:
    """Return whether so much of one body has arrived."""
    return [connection._body_bytes for connection in server.connections()] == [size]


def is_gone_after_look(server: Server) -> bool:
    """Let a window end, and return whether no connection is left."""
    if server.connections():
        server.look()
    return not server.connections()


def test_the_rest_of_a_refused_body_is_not_received_for_ever(server: Server) -> None:
    head = b"POST /refuse HTTP/1.1\r\nhost: x\r\ncontent-length: 10000000\r\n\r\n"
    with server.connect(head + bytes(200_000)) as client:
        until(lambda: server.phases() == ["rest"])
        until(lambda: is_gone_after_look(server))
        answer = answer_of(client)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.count(b"HTTP/1.1") == 1


def test_a_client_with_too_many_busy_connections_is_refused() -> None:
    limits = ConnectionLimits(total=10, per_client=3, window_seconds=3600, bytes_per_second=1)
    with serving(limits) as server, ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(server.connect(UPLOAD))
        until(lambda: server.phases() == ["body"] * 3)
        with server.connect() as refused:
            assert answer_of(refused).startswith(b"HTTP/1.1 503 ")
        # Another client, by its address, is not affected.
        other = socket.create_connection(("127.0.0.1", server.port), PATIENCE, source_address=("127.0.0.2", 0))
        with other:
            other.sendall(GOOD)
            assert answer_of(other).endswith(b"served")


def test_connections_leave_descriptors_for_files() -> None:
    assert raise_descriptor_limit(10) == 10
    assert raise_descriptor_limit(10**9) < 10**9
