"""Limits on connections, which uvicorn does not have: their number, the time for headers, and the rate of a body.

uvicorn ends a connection that is idle after a response. It waits for ever for a first request, for the rest of headers
or a body, and for a client that does not read its response. Here each connection is looked at once in a window: whoever
moved less than the minimum in a whole window is disconnected. Time that the service itself takes is not counted.
"""

import asyncio
import resource
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

log = structlog.get_logger()

MAX_HEADERS = 2**16
"""Bytes of the request line and all headers."""
SPARE_DESCRIPTORS = 256
"""Descriptors kept for files of models, uploads and workers."""


@dataclass(frozen=True)
class ConnectionLimits:
    """Limits of each process of the service."""

    total: int = 1000
    per_client: int = 100
    window_seconds: float = 10
    bytes_per_second: int = 1024


class LimitedProtocol(HttpToolsProtocol):
    """A connection that has to make progress, among a limited number of connections."""

    def __init__(self, *args: Any, limits: ConnectionLimits, **options: Any) -> None:
        super().__init__(*args, **options)
        self._limits = limits
        self._requests = 0
        self._in_headers = False
        self._in_message = False
        self._header_bytes = 0
        self._body_bytes = 0
        self._drained = 0
        self._last: tuple[str, int, int, int] = ("", 0, 0, 0)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin a connection, in place of an idle one if there are too many."""
        super().connection_made(transport)
        own = [other for other in self._others() if other.client and self.client and other.client[0] == self.client[0]]
        crowded = own if len(own) >= self._limits.per_client else self._others()
        if len(crowded) >= (self._limits.per_client if crowded is own else self._limits.total):
            idle = next((other for other in crowded if other.phase() == "idle"), None)
            if idle is None:
                self._refuse(HTTPStatus.SERVICE_UNAVAILABLE)
                return
            idle.transport.close()
        self._last = (self.phase(), 0, 0, 0)
        self.loop.call_later(self._limits.window_seconds, self.look)

    def phase(self) -> str:
        """Return what the connection waits for: headers or body of the client, work, or nothing."""
        if self.transport.get_write_buffer_size():
            return "reading"
        if self.cycle is None or self.cycle.response_complete or self._in_headers:
            # The rest of a body whose request was refused is received and thrown away.
            return "headers" if self._in_headers else "rest" if self._in_message else "idle"
        return "body" if self.cycle.more_body and not self.flow.read_paused else "work"

    def data_received(self, data: bytes) -> None:
        """Parse what the client sent, as long as headers have an end."""
        super().data_received(data)
        if self._in_headers and not self.transport.is_closing():
            self._header_bytes += len(data)
            if self._header_bytes > MAX_HEADERS:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def on_message_begin(self) -> None:
        """Begin the headers of a request."""
        self._in_headers = self._in_message = True
        self._header_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Begin the work on a request."""
        self._requests += 1
        self._in_headers = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """End the upload of a request."""
        self._in_message = False
        super().on_message_complete()

    def on_body(self, body: bytes) -> None:
        """Count and pass on a piece of a body."""
        self._body_bytes += len(body)
        super().on_body(body)

    def resume_writing(self) -> None:
        """Note that the client has read, and go on."""
        self._drained += 1
        super().resume_writing()

    def _others(self) -> list["LimitedProtocol"]:
        others = (other for other in self.connections if isinstance(other, LimitedProtocol) and other is not self)
        return [other for other in others if not other.transport.is_closing()]

    def look(self) -> None:
        """End the connection if it made no progress since the last look, else look again."""
        if self.transport.is_closing():
            return
        now = (self.phase(), self._requests, self._body_bytes + self._drained, self.transport.get_write_buffer_size())
        phase, requests, moved, buffer = self._last
        least = self._limits.bytes_per_second * self._limits.window_seconds
        self._last = now
        if (now[0], now[1]) == (phase, requests):
            if phase == "rest":
                self.transport.close()
            elif phase in ("idle", "headers") or (phase == "body" and now[2] - moved < least):
                self._refuse(HTTPStatus.REQUEST_TIMEOUT)
            elif phase == "reading" and now[2] == moved and buffer - now[3] < least:
                # What is not read will not be read: closing would wait for it.
                log.info("connection ended", reason=phase)
                self.transport.abort()
        if not self.transport.is_closing():
            self.loop.call_later(self._limits.window_seconds, self.look)

    def _refuse(self, status: HTTPStatus) -> None:
        """Answer with a status, if no response has begun, and close."""
        log.info("connection ended", reason=self.phase(), status=status.value)
        if self.cycle is None or not self.cycle.response_started or self.cycle.response_complete:
            line = f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            self.transport.write(line.encode())
        self.transport.close()


def raise_descriptor_limit(connections: int) -> int:
    """Let this process open as many files as it may, and return how many connections that leaves, at most as given."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return max(1, min(connections, hard - SPARE_DESCRIPTORS))
