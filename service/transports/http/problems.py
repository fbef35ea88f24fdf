"""Problems: every error as RFC 9457 problem+json, by one table from the error tree to HTTP."""

from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute
from kdmri_service.errors import (
    AuditFailed,
    Cancelled,
    DifferentJob,
    ErasedJob,
    JobsDisabled,
    MissingTraces,
    Overloaded,
    StorageFull,
    StoreUnavailable,
    TooLarge,
    UnfinishedJob,
    UnknownJob,
    UnsupportedMedia,
)
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from kdmri.errors import (
    CorruptBundle,
    ExceedsMemory,
    InvalidRequest,
    KdmriError,
    NotAcceptable,
    UnknownModel,
    UnreadableInput,
    UnsupportedInput,
)

log = structlog.get_logger()

DISCONNECTED = HTTPStatus.REQUEST_TIMEOUT
"""Status recorded in the metrics when a client disconnects before its response is ready. HTTP defines none for this
case; no client ever receives it."""
STATUS: dict[type[KdmriError], HTTPStatus] = {
    UnreadableInput: HTTPStatus.UNPROCESSABLE_ENTITY,
    UnsupportedInput: HTTPStatus.UNPROCESSABLE_ENTITY,
    InvalidRequest: HTTPStatus.BAD_REQUEST,
    UnknownModel: HTTPStatus.NOT_FOUND,
    NotAcceptable: HTTPStatus.NOT_ACCEPTABLE,
    ExceedsMemory: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    UnsupportedMedia: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    Overloaded: HTTPStatus.SERVICE_UNAVAILABLE,
    StoreUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    StorageFull: HTTPStatus.INSUFFICIENT_STORAGE,
    JobsDisabled: HTTPStatus.NOT_IMPLEMENTED,
    UnknownJob: HTTPStatus.NOT_FOUND,
    UnfinishedJob: HTTPStatus.CONFLICT,
    ErasedJob: HTTPStatus.GONE,
    DifferentJob: HTTPStatus.UNPROCESSABLE_ENTITY,
    AuditFailed: HTTPStatus.SERVICE_UNAVAILABLE,
    Cancelled: DISCONNECTED,
    CorruptBundle: HTTPStatus.INTERNAL_SERVER_ERROR,
    MissingTraces: HTTPStatus.INTERNAL_SERVER_ERROR,
}
"""Status of each error; an error that is not in the table has the status of its nearest base class that is."""
RETRY_AFTER_SECONDS = 5
LONGEST_ECHO = 40
"""Characters of a parameter's name that an error message repeats."""


def status_of(error: BaseException) -> HTTPStatus:
    """Return the status of the response to an error; 500 for an unforeseen one."""
    if isinstance(error, HTTPException):
        return HTTPStatus(error.status_code)
    if isinstance(error, RequestValidationError):
        return HTTPStatus.BAD_REQUEST
    if isinstance(error, ClientDisconnect):
        return DISCONNECTED
    # The order of the class's bases is from the nearest to the farthest.
    statuses = (STATUS[base] for base in type(error).__mro__ if base in STATUS)
    return next(statuses, HTTPStatus.INTERNAL_SERVER_ERROR)


def problem(status: HTTPStatus, kind: str, detail: str) -> Response:
    """Return a problem+json response.

    Args:
        status: Its status; 503 gets a Retry-After header.
        kind: The last part of the problem's type URI.
        detail: What was expected and what came.
    """
    content = {"type": f"urn:kdmri:problem:{kind}", "title": status.phrase, "status": status.value, "detail": detail}
    headers = {"Retry-After": str(RETRY_AFTER_SECONDS)} if status == HTTPStatus.SERVICE_UNAVAILABLE else None
    return JSONResponse(content, status, headers, media_type="application/problem+json")


def failure_problem(error: str, detail: str) -> tuple[HTTPStatus, str]:
    """Return the status and the kind of the problem that a job's error is, by the name of its class.

    Args:
        error: The name, of an error of the tree or of none that a client could mend.
        detail: What was expected and what came.
    """
    found = next((known for known in _below(KdmriError) if known.__name__ == error), None)
    return (
        (status_of(found(detail)), problem_kind(found)) if found else (HTTPStatus.INTERNAL_SERVER_ERROR, "unforeseen")
    )


def _below(base: type[KdmriError]) -> Iterator[type[KdmriError]]:
    for child in base.__subclasses__():
        yield child
        yield from _below(child)


def problem_of(error: KdmriError) -> Response:
    """Return the response to an error of the tree."""
    return problem(status_of(error), problem_kind(type(error)), str(error))


def install(app: FastAPI) -> None:
    """Install handlers for every error of the tree and of the framework."""

    @app.exception_handler(KdmriError)
    async def on_known(_: Request, error: KdmriError) -> Response:
        return problem_of(error)

    @app.exception_handler(RequestValidationError)
    async def on_invalid(request: Request, error: RequestValidationError) -> Response:
        return problem(status_of(error), "invalid-request", _invalid_parameter(error, request))

    @app.exception_handler(HTTPException)
    async def on_http(request: Request, error: HTTPException) -> Response:
        # The framework's own detail may repeat the path, which may contain anything.
        status = status_of(error)
        return problem(status, "http", f"{request.method} on this address: {status.phrase.lower()}")


def _invalid_parameter(error: RequestValidationError, request: Request) -> str:
    """Return what is wrong with the first invalid parameter; one that does not exist gets the list of those that do."""
    # pydantic's message names the constraint, never the value.
    return describe_invalid(error.errors()[0], _parameter_models(request))


def describe_invalid(error: Mapping[str, Any], models: Sequence[type[BaseModel]]) -> str:
    """Return what is wrong with a parameter.

    Args:
        error: One of pydantic's errors: where, of which type, and its message.
        models: The models whose fields the parameters are; an unknown parameter gets the list of them.
    """
    name = str(error["loc"][-1])[:LONGEST_ECHO] if error["loc"] else ""
    if error["type"] != "extra_forbidden":
        return f"parameter {name}: {error['msg']}"
    # By the names that requests use: `set` is a field of another name in Python.
    known = [field.alias or key for model in models for key, field in model.model_fields.items()]
    return f"expected parameters {', '.join(known)}, got {name!r}"


def _parameter_models(request: Request) -> list[type[BaseModel]]:
    """Return the models whose fields are the query parameters of a request's route."""
    route = request.scope.get("route")
    fields = route.dependant.query_params if isinstance(route, APIRoute) else []
    types = (field.field_info.annotation for field in fields)
    return [model for model in types if isinstance(model, type) and issubclass(model, BaseModel)]


def internal_error(error: Exception) -> Response:
    """Log an unforeseen error and return its response. Neither contains its message, which may quote the input."""
    log.error("request failed", error=type(error).__name__, where=_place(error))
    detail = "the service failed on this request; its log has an entry under the X-Request-ID of this answer"
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "unforeseen", detail)


def ending() -> Response:
    """Return the response to a request that arrives while the service ends: another instance may take it."""
    return problem_of(Overloaded("expected a service that accepts requests, this one is ending: try again later"))


def problem_kind(error: type[KdmriError]) -> str:
    """Return the last part of a problem's type URI: the error's class name, in lower case with dashes."""
    # Derived from the class, so that a new error needs no entry in a second table.
    name = error.__name__
    return "".join(f"-{c.lower()}" if c.isupper() else c for c in name).lstrip("-")


def _place(error: BaseException) -> list[str]:
    """Return module:line of each frame, innermost last."""
    # Module and line alone: the lines of source that a traceback quotes could hold values.
    frames, trace = [], error.__traceback__
    while trace:
        frames.append(f"{trace.tb_frame.f_globals.get('__name__')}:{trace.tb_lineno}")
        trace = trace.tb_next
    return frames
