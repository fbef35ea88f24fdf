"""The application: models loaded before the first request, an id and a log line for every request."""

import asyncio
import multiprocessing
import re
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial

import structlog
from fastapi import FastAPI
from kdmri_service.auth.audit import AuditLog
from kdmri_service.auth.policy import authenticator
from kdmri_service.draining import Drain
from kdmri_service.engine.catalogue import load_catalogue
from kdmri_service.engine.engine import Engine
from kdmri_service.engine.parsing.pool import ParserLimits, ParserPool
from kdmri_service.engine.scheduler import Scheduler
from kdmri_service.jobs.desk import Desk
from kdmri_service.jobs.opening import open_desk
from kdmri_service.observability import logs, traces
from kdmri_service.processes import end_with_parent
from kdmri_service.settings import Settings
from kdmri_service.shadow.controller import Shadow
from kdmri_service.transports.http import problems
from kdmri_service.transports.http.auditing import Auditing
from kdmri_service.transports.http.authentication import Authentication
from kdmri_service.transports.http.dependencies import Service
from kdmri_service.transports.http.negotiation import negotiate
from kdmri_service.transports.http.routes import health, metrics, models
from kdmri_service.transports.http.routes.jobs import router_of_jobs
from kdmri_service.transports.http.routes.operations import router_of
from kdmri_service.viewer import routes as viewer
from kdmri_service.watchdog import watching
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import kdmri
from kdmri.operations import OPERATIONS, Operation
from kdmri.operations.operation import Limits

log = structlog.get_logger()

DISCARD_BYTES, DISCARD_SECONDS = 2**20, 0.25
"""Bounds on the body of a request that is refused while the service ends."""
# Harmless in log lines, headers and shells: an id is quoted in all of them.
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def create_app(settings: Settings | None = None, operations: Sequence[type[Operation]] = OPERATIONS) -> FastAPI:
    """Return the service with the models of `settings.models`.

    Args:
        settings: By default those of the environment.
        operations: The operations that it offers, one route each.

    Returns:
        The application. As it starts, it raises UnknownModel, CorruptBundle or InvalidRequest; see `load_catalogue`.
    """
    settings = settings or Settings()
    drain = Drain(delay=settings.drain_seconds, grace=settings.grace_seconds)
    audit = AuditLog(settings.audit, required=settings.audit_required) if settings.audit else None

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        logs.configure(settings.log_level)
        if parent := multiprocessing.parent_process():
            # One of several workers: it must not outlive a parent that is killed, which would keep the port.
            end_with_parent(parent.pid or 0)
        with traces.export_spans(settings.traces):
            async with running(settings, drain, operations, audit) as service:
                app.state.service = service
                with drain.on_sigterm(), watching(asyncio.get_running_loop()):
                    yield

    # The version is the library's: service and library are released together.
    app = FastAPI(
        title="kdmri",
        version=kdmri.__version__,
        description=kdmri.__doc__ or "",
        lifespan=lifespan,
        telemetry=traces.of_requests(settings.traces),
    )
    for router in (router_of(operations), router_of_jobs(operations), models.router, health.router, metrics.router):
        app.include_router(router)
    app.include_router(viewer.router)
    problems.install(app)
    if (authenticate := authenticator(settings)) is not None:
        app.add_middleware(Authentication, authenticate=authenticate)
    if audit is not None:
        # Around authentication, so that refused requests are recorded, too.
        app.add_middleware(Auditing, audit=audit)
    # Added last, so outermost: refusals have a request id and a log line, too.
    app.add_middleware(Envelope, drain=drain)
    return app


@asynccontextmanager
async def running(
    settings: Settings,
    drain: Drain,
    operations: Sequence[type[Operation]] = OPERATIONS,
    audit: AuditLog | None = None,
) -> AsyncIterator[Service]:
    """Provide the running service: models loaded and warm, scheduler and shadow started.

    Args:
        settings: The settings.
        drain: The requests in flight, and whether the service is ending.
        operations: The operations that models may be for.
        audit: Records the start and the end here, and requests elsewhere.

    Raises:
        UnknownModel: The models folder holds no model.
        CorruptBundle: A model is incomplete or changed, or no operation has its task.
        InvalidRequest: This machine does not offer the back end.
    """
    if audit is not None:
        # Nothing is served yet, so the event loop may wait for the disk.
        audit.begin()
    scheduler = Scheduler(
        inferences=settings.inferences, capacity=settings.queue, patience=settings.batch_wait_ms / 1000
    )
    load = partial(
        load_catalogue,
        settings.models,
        device=settings.device,
        threads=settings.inference_threads,
        inferences=settings.inferences,
        backend=settings.backend,
        operations=operations,
    )
    # In an inference thread: what torch and the back end keep for each thread is then warm where requests run.
    catalogue = await scheduler.prepare(load, threads=settings.inference_threads)
    # Known only now, because the processor may have taken the place of a card.
    scheduler.batch = settings.batch_on(catalogue.device)
    shadow = Shadow(catalogue, scheduler, rate=settings.shadow_rate)
    # Nothing is served yet, so the event loop may wait.
    parsers = _start_parsers(settings) if settings.parsers else None
    log.info("ready", models=len(catalogue.bundles), version=kdmri.__version__)
    limits = Limits(unpacked_bytes=settings.max_unpacked_mb * 2**20)
    engine = Engine(catalogue, scheduler, limits, parsers, settings.predict_above)
    async with _jobs(settings, engine, operations, drain) as desk:
        yield Service(settings, engine, shadow, drain, desk, audit)
    # In the order of a request's way, so that no stage gets work after it has closed.
    if parsers is not None:
        parsers.close()
    scheduler.close()
    shadow.close()
    if audit is not None:
        audit.close()


@asynccontextmanager
async def _jobs(
    settings: Settings, engine: Engine, operations: Sequence[type[Operation]], drain: Drain
) -> AsyncIterator[Desk | None]:
    """Provide durable jobs, which run until the service ends, if there is a spool for them."""
    if settings.spool is None:
        yield None
        return
    desk = open_desk(
        settings,
        settings.spool,
        engine,
        operations,
        negotiate=negotiate,
        status_of=problems.status_of,
        may_claim=lambda: not drain.draining,
    )
    desk.start(settings.inferences)
    try:
        yield desk
    finally:
        await desk.close()


def _start_parsers(settings: Settings) -> ParserPool:
    """Start the processes that read uploads, and log what the kernel confines them by."""
    bytes_at_most = settings.parse_memory_mb * 2**20
    limits = ParserLimits(seconds=settings.parse_seconds, memory=bytes_at_most, answer=bytes_at_most)
    pool = ParserPool(settings.parsers, limits)
    held = pool.start()
    if held.complete:
        log.info("parsers are confined", landlock=held.landlock, seccomp=held.seccomp)
    else:
        log.warning(
            "this kernel confines parsers in part: limits on memory and time hold, and what is named here",
            landlock=held.landlock,
            seccomp=held.seccomp,
        )
    return pool


async def discard_body(receive: Receive) -> None:
    """Receive the body of a request that is refused, up to a size and for a time that a small upload needs."""
    received = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(DISCARD_SECONDS):
            while received < DISCARD_BYTES:
                message = await receive()
                received += len(message.get("body", b""))
                if not message.get("more_body"):
                    return


class Envelope:
    """Middleware around every request: its id, its log line, its refusal while the service ends, its unforeseen error.

    X-Request-ID is the client's if that is harmless, else a new one; the response and every log line carry it.
    """

    def __init__(self, app: ASGIApp, drain: Drain) -> None:
        self.app = app
        self.drain = drain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, as an ASGI application.

        Args:
            scope: The connection: for HTTP with method, path and headers.
            receive: Gives the next message of the client.
            send: Takes the next message for the client.
        """
        # The lifespan's messages have no request to name.
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        client_id = Headers(scope=scope).get("x-request-id", "")
        request_id = client_id if REQUEST_ID.fullmatch(client_id) else uuid.uuid4().hex

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                if self.drain.draining:
                    # A client that keeps its connection would lose its next request with it.
                    headers["Connection"] = "close"
                if scope["path"] not in traces.QUIET:
                    # The route's pattern is logged, not the path, which may contain anything that a client put into it.
                    route = getattr(scope.get("route"), "path", "none")
                    log.info("answered", method=scope["method"], route=route, status=message["status"])
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                if scope["path"] in traces.QUIET:
                    await self.app(scope, receive, send_with_id)
                elif self.drain.draining:
                    # A connection that is closed with unread bytes is reset, and the client may never see its response.
                    await discard_body(receive)
                    await problems.ending()(scope, receive, send_with_id)
                else:
                    with self.drain.request():
                        await self.app(scope, receive, send_with_id)
            except ClientDisconnect:
                log.info("client left", method=scope["method"], route=getattr(scope.get("route"), "path", "none"))
            except Exception as error:
                # The error ends here: raised further, it would reach the server's log with its message.
                await problems.internal_error(error)(scope, receive, send_with_id)
