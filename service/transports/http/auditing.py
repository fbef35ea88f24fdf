"""Auditing of HTTP requests: each gets one line in the audit trail before its client gets the end of its response."""

import hashlib
import json
import time
from typing import get_args

from anyio.to_thread import run_sync
from fastapi import Request
from kdmri_service.auth.audit import AuditLog, Entry, digests
from kdmri_service.auth.principals import Principal
from kdmri_service.errors import AuditFailed
from kdmri_service.observability import traces
from kdmri_service.transports.http.problems import problem_of, status_of
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kdmri.operations import Operation
from kdmri.operations.operation import SourceFile

HASHED_AT_ONCE = 2**20
"""Bytes that are hashed on the event loop, within a millisecond; a thread hashes larger bodies."""
PROBLEM = "application/problem+json"
LOOKED_UP = ("role", "model")
"""Parameters whose texts are compared with what exists before they are noted."""
WITHHELD = "withheld"


class Auditing:
    """Middleware that records every request, except those of orchestrators and Prometheus for health and metrics."""

    def __init__(self, app: ASGIApp, audit: AuditLog) -> None:
        self._app = app
        self._audit = audit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, as an ASGI application."""
        if scope["type"] != "http" or scope["path"] in traces.QUIET:
            await self._app(scope, receive, send)
            return
        entry = Entry(scope["client"][0] if scope.get("client") else None)
        scope.setdefault("state", {})["audit"] = entry
        recorder = _Recorder(self._audit, entry, scope, send)
        if self._audit.refuses_work:
            # The refusal is recorded as well: once that succeeds, the next request is served.
            await problem_of(audit_error())(scope, receive, recorder.send)
            return
        try:
            await self._app(scope, receive, recorder.send)
        except BaseException as error:
            if not recorder.complete:
                entry.status = status_of(error)
                # Not awaited: where this task is cancelled, an await would end at once.
                self._audit.submit(recorder.finish())
            raise


class _Recorder:
    """Passes a response on, and records it before its last part."""

    def __init__(self, audit: AuditLog, entry: Entry, scope: Scope, send: Send) -> None:
        self._audit, self._entry, self._scope, self._send = audit, entry, scope, send
        # Monotonic: a clock that is set during a request would make its duration wrong.
        self._began = time.monotonic()
        self._digest = hashlib.sha256()
        self._start: Message | None = None
        self.complete = False

    def finish(self) -> Entry:
        """Complete the entry by what is known at the end of a request."""
        self.complete = True
        entry = self._entry
        entry.seconds = time.monotonic() - self._began
        entry.operation = getattr(self._scope.get("route"), "name", entry.operation)
        principal = self._scope.get("state", {}).get("principal")
        entry.key = principal.name if isinstance(principal, Principal) else None
        return entry

    async def send(self, message: Message) -> None:
        """Send a part of the response. Its start is held back until its first body part."""
        if message["type"] == "http.response.start":
            self._start = message
            return
        if message["type"] == "http.response.body":
            body, is_last = message.get("body", b""), not message.get("more_body", False)
            await self._hash(body)
            if self._start is not None:
                self._note(self._start, body)
            if is_last:
                self._entry.output = self._digest.hexdigest()
                # Before the last part is sent: no client holds a whole answer that the trail does not have.
                recorded = await self._audit.record(self.finish())
                if not recorded and self._audit.required and self._start is not None:
                    await self._refuse(message)
                    return
            if self._start is not None:
                start, self._start = self._start, None
                await self._send(start)
        await self._send(message)

    async def _refuse(self, message: Message) -> None:
        """Send a problem in place of a response that could not be recorded."""
        refusal = problem_of(audit_error())
        start = {"type": "http.response.start", "status": refusal.status_code, "headers": refusal.raw_headers}
        await self._send(start)
        await self._send({**message, "body": refusal.body})

    async def _hash(self, body: bytes) -> None:
        if len(body) > HASHED_AT_ONCE:
            await run_sync(self._digest.update, body)
        else:
            self._digest.update(body)

    def _note(self, start: Message, body: bytes) -> None:
        headers = Headers(raw=start["headers"])
        self._entry.status = start["status"]
        self._entry.model = headers.get("kdmri-model")
        if headers.get("content-type") == PROBLEM:
            self._entry.problem = json.loads(body).get("type")


def audit_error() -> AuditFailed:
    """Return the error of a request that can't be recorded."""
    return AuditFailed("expected an audit trail that can be written, it can't be now: try again later")


def note_operation(request: Request, operation: Operation) -> None:
    """Note the parameters of an operation that was admitted: only then are role and model names that exist.

    Other texts that a client may word freely are noted as given, without their content: the name of a group in a file
    could be a patient's.
    """
    if (entry := _entry_of(request)) is not None:
        values = operation.model_dump(mode="json", exclude_none=True)
        entry.parameters = {
            name: WITHHELD if name not in LOOKED_UP and _is_free_text(type(operation), name) else value
            for name, value in values.items()
        }


def _is_free_text(operation: type[Operation], name: str) -> bool:
    """Return whether a parameter takes any text, rather than one of a set."""
    annotation = operation.model_fields[name].annotation
    return str in (annotation, *get_args(annotation))


async def note_files(request: Request, files: list[SourceFile]) -> None:
    """Note the hashes of the files of a request."""
    if (entry := _entry_of(request)) is not None:
        entry.inputs = await run_sync(digests, files)


def _entry_of(request: Request) -> Entry | None:
    """Return the request's entry; None where nothing is audited."""
    entry = request.scope.get("state", {}).get("audit")
    return entry if isinstance(entry, Entry) else None
