"""Every error as RFC 9457 problem+json: one table from the error tree to HTTP."""

from http import HTTPStatus

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from kdmri.errors import (
    CorruptBundle,
    InvalidRequest,
    KdmriError,
    UnknownModel,
    UnreadableDicom,
    UnreadableInput,
    UnreadableKSpace,
    UnsupportedInput,
)

log = structlog.get_logger()


class TooLarge(KdmriError):
    """The upload is over the limit."""


class Overloaded(KdmriError):
    """No place in the queue."""


class NotAcceptable(KdmriError):
    """None of the types that the client accepts is offered."""


class UnsupportedMedia(KdmriError):
    """The body's type is not one of those read."""


STATUS: dict[type[KdmriError], HTTPStatus] = {
    UnreadableInput: HTTPStatus.UNPROCESSABLE_ENTITY,
    UnreadableKSpace: HTTPStatus.UNPROCESSABLE_ENTITY,
    UnreadableDicom: HTTPStatus.UNPROCESSABLE_ENTITY,
    UnsupportedInput: HTTPStatus.UNPROCESSABLE_ENTITY,
    InvalidRequest: HTTPStatus.BAD_REQUEST,
    UnknownModel: HTTPStatus.NOT_FOUND,
    NotAcceptable: HTTPStatus.NOT_ACCEPTABLE,
    TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    UnsupportedMedia: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    Overloaded: HTTPStatus.SERVICE_UNAVAILABLE,
    CorruptBundle: HTTPStatus.INTERNAL_SERVER_ERROR,
}
LEFT = HTTPStatus.REQUEST_TIMEOUT
"""What a request is counted as whose client did not wait. HTTP has no status for it: nobody is there to see one."""
RETRY_AFTER_SECONDS = 5


def status_of(error: BaseException) -> HTTPStatus:
    """The status an error is answered with; 500 for whatever was not foreseen."""
    if isinstance(error, HTTPException):
        return HTTPStatus(error.status_code)
    if isinstance(error, RequestValidationError):
        return HTTPStatus.BAD_REQUEST
    if isinstance(error, ClientDisconnect):
        return LEFT
    return STATUS.get(type(error), HTTPStatus.INTERNAL_SERVER_ERROR)  # type: ignore[arg-type]


def problem(status: HTTPStatus, kind: str, detail: str) -> Response:
    """A problem+json answer; `kind` is the last part of its type URI."""
    content = {"type": f"urn:kdmri:problem:{kind}", "title": status.phrase, "status": status.value, "detail": detail}
    headers = {"Retry-After": str(RETRY_AFTER_SECONDS)} if status == HTTPStatus.SERVICE_UNAVAILABLE else None
    return JSONResponse(content, status, headers, media_type="application/problem+json")


def install(app: FastAPI) -> None:
    """Answer every error of the tree and of the framework."""

    @app.exception_handler(KdmriError)
    async def on_known(_: Request, error: KdmriError) -> Response:
        return problem(status_of(error), _kind(error), str(error))

    @app.exception_handler(RequestValidationError)
    async def on_invalid(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        detail = f"parameter {first['loc'][-1]}: {first['msg']}"
        return problem(status_of(error), "invalid-request", detail)

    @app.exception_handler(HTTPException)
    async def on_http(request: Request, error: HTTPException) -> Response:
        status = status_of(error)
        return problem(status, "http", f"{request.method} on this address: {status.phrase.lower()}")


def unforeseen(error: Exception) -> Response:
    """Log and answer an error that nobody expected; neither quotes it, since it may quote the input."""
    log.error("request failed", error=type(error).__name__, where=_place(error))
    detail = "the service failed on this request; its log has an entry under the X-Request-ID of this answer"
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "unforeseen", detail)


def _kind(error: KdmriError) -> str:
    name = type(error).__name__
    return "".join(f"-{c.lower()}" if c.isupper() else c for c in name).lstrip("-")


def _place(error: BaseException) -> list[str]:
    """module:line of each frame, innermost last."""
    frames, trace = [], error.__traceback__
    while trace:
        frames.append(f"{trace.tb_frame.f_globals.get('__name__')}:{trace.tb_lineno}")
        trace = trace.tb_next
    return frames
