"""Routes of durable jobs: submit, look, fetch, cancel."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from http import HTTPStatus
from typing import Annotated, Any, BinaryIO

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from kdmri_service.auth.principals import ANYONE, Principal, Scope
from kdmri_service.errors import JobsDisabled, UnknownJob
from kdmri_service.jobs.desk import Desk, Wishes
from kdmri_service.jobs.records import Job
from kdmri_service.observability.observation import Observation
from kdmri_service.transports.http.auditing import note_files, note_operation
from kdmri_service.transports.http.dependencies import Accept, RunningService, Service, type_chooser
from kdmri_service.transports.http.job_status import JobStatus, job_status
from kdmri_service.transports.http.openapi import PROBLEMS
from kdmri_service.transports.http.problems import describe_invalid, failure_problem, problem
from kdmri_service.transports.http.upload import receive
from pydantic import ValidationError
from starlette.background import BackgroundTask

from kdmri.errors import InvalidRequest
from kdmri.operations import Operation
from kdmri.operations.media_types import BINARY, RELATED

CHUNK = 2**20
LOOK_SECONDS = 0.5
"""Time between two looks at a job whose progress a client follows."""
LONGEST_KEY = 255

IdempotencyKey = Annotated[
    str | None,
    Header(description="a text of the client's own: submissions with the same one are one job", max_length=LONGEST_KEY),
]


def router_of_jobs(operations: Sequence[type[Operation]]) -> APIRouter:
    """Return the routes of jobs that run one of these operations."""
    router = APIRouter()
    router.add_api_route(
        "/jobs",
        _submission({operation.name: operation for operation in operations}),
        methods=["POST"],
        name="submit",
        status_code=HTTPStatus.ACCEPTED,
        responses={status: PROBLEMS[status] for status in (400, 404, 406, 413, 415, 422, 501, 503, 507)},
        openapi_extra=_documented_body(operations),
    )
    for method, path, endpoint in (
        ("GET", "/jobs/{job_id}", show),
        ("DELETE", "/jobs/{job_id}", cancel),
    ):
        router.add_api_route(path, endpoint, methods=[method], responses={404: PROBLEMS[404], 501: PROBLEMS[501]})
    router.add_api_route(
        "/jobs/{job_id}/result",
        fetch,
        methods=["GET"],
        response_class=Response,
        responses={status: PROBLEMS[status] for status in (404, 409, 410, 501)},
    )
    router.add_api_route(
        "/jobs/{job_id}/events",
        follow,
        methods=["GET"],
        response_class=Response,
        responses={200: {"content": {"text/event-stream": {}}}, 404: PROBLEMS[404], 501: PROBLEMS[501]},
    )
    return router


def _submission(operations: dict[str, type[Operation]]) -> Callable[..., Any]:
    async def submit(
        request: Request,
        response: Response,
        service: RunningService,
        operation: Annotated[str, Query(description=" or ".join(operations))],
        accept: Accept = None,
        idempotency_key: IdempotencyKey = None,
    ) -> JobStatus:
        """Accept a job; its parameters are those of the operation's own route, in the query."""
        if (kind := operations.get(operation.replace("-", "_"))) is None:
            raise InvalidRequest(f"expected operation {' or '.join(operations)}, got {operation[:40]!r}")
        parameters = {name: value for name, value in request.query_params.items() if name != "operation"}
        accepted = await accept_job(request, service, _validate(kind, parameters), accept, idempotency_key)
        response.headers.update(location_of(accepted))
        return accepted

    return submit


async def accept_job(
    request: Request, service: Service, operation: Operation, accept: str | None, idempotency_key: str | None
) -> JobStatus:
    """Receive the files of a request and store it as a job.

    Args:
        request: A request whose body was not read yet.
        service: The running service.
        operation: The operation with its parameters.
        accept: The Accept header.
        idempotency_key: The Idempotency-Key header.

    Returns:
        The job's status.
    """
    # Refused before the upload, by its declared size; what is not declared is counted while it is received.
    desk = _desk_of(service)
    declared = request.headers.get("content-length", "")
    await desk.require_room(int(declared) if declared.isdigit() else 0)
    admitted = service.engine.admit(operation, type_chooser(request, accept), Observation(operation.name))
    note_operation(request, operation)
    files = await receive(request, raw=operation.body_types, limit=service.settings.max_upload_mb * 2**20)
    await note_files(request, files)
    is_related = request.headers.get("content-type", "").lower().startswith(RELATED)
    wishes = Wishes(_principal(request).owner, accept, RELATED if is_related else None, idempotency_key)
    job = await desk.submit(admitted, wishes, files)
    return job_status(*await desk.find(job.id))


def location_of(job: JobStatus) -> dict[str, str]:
    """Return the header that says where a job is."""
    return {"Location": f"/jobs/{job.id}"}


async def show(request: Request, service: RunningService, job_id: str) -> JobStatus:
    """State, position and progress of a job."""
    return job_status(*await _own(request, _desk_of(service), job_id))


async def cancel(request: Request, service: RunningService, job_id: str) -> JobStatus:
    """Cancel a job that waits or runs; erase the data of one that has ended."""
    desk = _desk_of(service)
    job, _ = await _own(request, desk, job_id)
    return job_status(await desk.cancel(job), None)


async def fetch(request: Request, service: RunningService, job_id: str) -> Response:
    """The answer to a job, as the operation's own route gives it."""
    desk = _desk_of(service)
    job, _ = await _own(request, desk, job_id)
    if job.error is not None:
        status, kind = failure_problem(job.error.error, job.error.detail)
        return problem(status, kind, job.error.detail)
    outcome, content = await desk.result(job)
    return StreamingResponse(
        _chunks(content),
        media_type=outcome.blob.media_type,
        headers=dict(outcome.headers),
        background=BackgroundTask(content.close),
    )


async def follow(request: Request, service: RunningService, job_id: str) -> Response:
    """Server-sent events of a job's status, one for each change, until it ends."""
    desk = _desk_of(service)
    await _own(request, desk, job_id)
    return StreamingResponse(
        _events(service, desk, job_id), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
    )


async def _events(service: Service, desk: Desk, job_id: str) -> AsyncIterator[str]:
    last = None
    while True:
        status = job_status(*await desk.find(job_id))
        # Only changes are sent: a client that follows a long job gets a line for each stage, not two a second.
        if status != last:
            yield f"event: status\ndata: {status.model_dump_json()}\n\n"
        # A stream would keep a service that is ending from ending.
        if status.state.is_final or service.drain.draining:
            return
        last = status
        await asyncio.sleep(LOOK_SECONDS)


async def _own(request: Request, desk: Desk, job_id: str) -> tuple[Job, int | None]:
    """Return a job of this principal's, or any for an administrator. Raises UnknownJob for others'."""
    principal = _principal(request)
    job, position = await desk.find(job_id)
    if job.owner != principal.owner and not principal.may(Scope.admin):
        # The same error as for an id that does not exist, so that ids of others can't be found by trying.
        raise UnknownJob("expected the id of a job of this key, got another")
    return job, position


def _principal(request: Request) -> Principal:
    principal: Principal = getattr(request.state, "principal", ANYONE)
    return principal


def _desk_of(service: Service) -> Desk:
    if service.jobs is None:
        raise JobsDisabled("expected a service with KDMRI_SPOOL, this one keeps no jobs")
    return service.jobs


def _validate(kind: type[Operation], parameters: dict[str, str]) -> Operation:
    try:
        return kind.model_validate(parameters)
    except ValidationError as error:
        raise InvalidRequest(describe_invalid(error.errors()[0], [kind])) from None


def _chunks(content: BinaryIO) -> Iterator[bytes]:
    while chunk := content.read(CHUNK):
        yield chunk


def _documented_body(operations: Sequence[type[Operation]]) -> dict[str, Any]:
    """Return the description of the body: a form with the files, or a file of a type that one operation reads."""
    binary = {"type": "string", "format": "binary"}
    form = {"type": "object", "properties": {"file": {"type": "array", "items": binary}}, "required": ["file"]}
    kinds = {kind for operation in operations for kind in operation.documented_types} | {BINARY}
    content = {"multipart/form-data": {"schema": form}, **{kind: {"schema": binary} for kind in sorted(kinds)}}
    return {"requestBody": {"required": True, "content": content}}
