"""One route for each operation: receive the files, run the engine, respond."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from http import HTTPStatus
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, BackgroundTasks, Header, Query, Request, Response
from kdmri_service.observability.observation import track_request
from kdmri_service.transports.http.auditing import note_files, note_operation
from kdmri_service.transports.http.dependencies import Accept, RunningService, TypeChooser
from kdmri_service.transports.http.openapi import documented_answer, documented_body
from kdmri_service.transports.http.problems import status_of
from kdmri_service.transports.http.response import respond
from kdmri_service.transports.http.routes.jobs import IdempotencyKey, accept_job, location_of
from kdmri_service.transports.http.upload import receive
from starlette.requests import ClientDisconnect

from kdmri.operations import Operation
from kdmri.operations.media_types import JSON

ASYNC = "respond-async"
Prefer = Annotated[
    str | None,
    Header(description=f"{ASYNC} makes a job of the request, answered 202 with its Location (RFC 7240)"),
]

Outcome = TypeVar("Outcome")


def router_of(operations: Sequence[type[Operation]]) -> APIRouter:
    """Return the routes of operations: POST /<name>, the fields of the operation as query parameters."""
    router = APIRouter()
    for operation in operations:
        router.add_api_route(
            "/" + operation.name.replace("_", "-"),
            _route(operation),
            methods=["POST"],
            name=operation.name,
            description=operation.__doc__,
            openapi_extra=documented_body(operation),
            responses=documented_answer(operation),
            response_class=Response,
        )
    return router


def _route(operation_type: type[Operation]) -> Callable[..., Awaitable[Response]]:
    async def run(
        request: Request,
        after: BackgroundTasks,
        service: RunningService,
        choose_type: TypeChooser,
        operation: Operation,
        accept: Accept = None,
        prefer: Prefer = None,
        idempotency_key: IdempotencyKey = None,
    ) -> Response:
        if service.jobs is not None and prefers_job(prefer):
            job = await accept_job(request, service, operation, accept, idempotency_key)
            headers = {**location_of(job), "Preference-Applied": ASYNC}
            return Response(job.model_dump_json(), HTTPStatus.ACCEPTED, headers, media_type=JSON)
        with track_request(operation.name, operation.role, status_of=status_of) as observation:
            admitted = service.engine.admit(
                operation, choose_type, observation, client=request.client.host if request.client else ""
            )
            note_operation(request, operation)
            limit = service.settings.max_upload_mb * 2**20
            files = await receive(request, raw=operation.body_types, limit=limit)
            await note_files(request, files)
            answer = await while_connected(request, service.engine.run(admitted, files))
            # After the response was sent: neither sampling nor closing files may delay it. Closed last, since the
            # sample reads from them.
            after.add_task(service.shadow.offer, answer)
            after.add_task(answer.close)
            return respond(answer, observation)

    # FastAPI reads parameters from annotations: each route gets the fields of its own operation.
    run.__annotations__["operation"] = Annotated[operation_type, Query()]
    return run


def prefers_job(prefer: str | None) -> bool:
    """Return whether a Prefer header asks for an answer later (RFC 7240, section 4.1)."""
    return ASYNC in (entry.partition(";")[0].strip().lower() for entry in (prefer or "").split(","))


async def while_connected(request: Request, work: Coroutine[Any, Any, Outcome]) -> Outcome:
    """Await work until the client disconnects, which cancels it.

    Args:
        request: A request whose whole body was received: the next message can only be the end of the connection.
        work: The coroutine that answers it.

    Returns:
        What the work returns.

    Raises:
        ClientDisconnect: The client disconnected first.
    """
    working, disconnect = asyncio.ensure_future(work), asyncio.ensure_future(_disconnect(request))
    try:
        await asyncio.wait((working, disconnect), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        # Both: this coroutine itself may be cancelled while it waits.
        working.cancel()
        disconnect.cancel()


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
