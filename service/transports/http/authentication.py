"""Authentication of HTTP requests: a key or token in the header Authorization or X-API-Key, before the body is read."""

from http import HTTPStatus

import structlog
from anyio.to_thread import run_sync
from kdmri_service.auth.policy import Authenticate, scope_of
from kdmri_service.auth.principals import Principal, Scope
from kdmri_service.transports.http.problems import problem
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as AsgiScope

from kdmri.errors import InvalidRequest

log = structlog.get_logger()

LONGEST_CREDENTIAL = 8192
"""Bytes; tokens with many claims have a few thousand, and a longer one would be hashed and parsed for nothing."""
CHALLENGE = {"WWW-Authenticate": 'Bearer realm="kdmri"'}


class Authentication:
    """Middleware that refuses requests without the right they need: 401 for nobody known, 403 for the wrong right."""

    def __init__(self, app: ASGIApp, authenticate: Authenticate) -> None:
        self._app = app
        self._authenticate = authenticate

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Serve one request, as an ASGI application.

        Args:
            scope: The connection: for HTTP with path and headers. Its state gets the principal.
            receive: Gives the next message of the client.
            send: Takes the next message for the client.
        """
        needed = scope_of(scope["path"]) if scope["type"] == "http" else None
        if needed is None:
            await self._app(scope, receive, send)
            return
        credential = credential_of(Headers(scope=scope))
        principal = None if credential is None else await self._principal(credential)
        if principal is None or not principal.may(needed):
            log.info("refused", reason="unknown" if principal is None else "scope", needed=needed.value)
            await _refusal(principal, needed)(scope, receive, send)
            return
        scope.setdefault("state", {})["principal"] = principal
        with structlog.contextvars.bound_contextvars(principal=principal.name):
            await self._app(scope, receive, send)

    async def _principal(self, credential: str) -> Principal | None:
        try:
            # A remote key set may have to be fetched, and a key file read.
            return await run_sync(self._authenticate, credential)
        except InvalidRequest as error:
            # A key file that can't be read any more lets nobody in; why is for the operator alone.
            log.error("keys can't be read", reason=str(error))
            return None


def credential_of(headers: Headers) -> str | None:
    """Return the one credential of a request, None if it has none, several, or one of no known form."""
    stated = [*headers.getlist("authorization"), *(f"Bearer {key}" for key in headers.getlist("x-api-key"))]
    # With several, proxy and service might each take another one for the client's.
    if len(stated) != 1:
        return None
    kind, _, credential = stated[0].partition(" ")
    if kind.lower() != "bearer" or not 0 < len(credential) <= LONGEST_CREDENTIAL or " " in credential:
        return None
    return credential


def _refusal(principal: Principal | None, needed: Scope) -> Response:
    if principal is None:
        detail = "expected a valid key or token in the header Authorization: Bearer, got none"
        refusal = problem(HTTPStatus.UNAUTHORIZED, "unauthenticated", detail)
        refusal.headers.update(CHALLENGE)
        return refusal
    return problem(HTTPStatus.FORBIDDEN, "forbidden", f"expected a key or token with the scope {needed.value}")
