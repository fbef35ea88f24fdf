"""The application: models loaded before the first request, ids on every request, one log line an answer."""

import re
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import structlog
from fastapi import FastAPI
from kdmri_service.engine.catalogue import Models
from kdmri_service.engine.scheduler import Scheduler
from kdmri_service.observability import logs, traces
from kdmri_service.settings import Settings
from kdmri_service.shadow.controller import Shadow
from kdmri_service.transports.http import problems as errors
from kdmri_service.transports.http.routes import operations as routes
from kdmri_service.transports.http.routes import status
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import kdmri

log = structlog.get_logger()

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def create_app(settings: Settings | None = None) -> FastAPI:
    """The service with the models of `settings.models`. Raises UnknownModel or CorruptBundle as it starts."""
    settings = settings or Settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        logs.configure(settings.log_level)
        with traces.exported(settings.traces):
            async with running(app, settings):
                yield

    app = FastAPI(
        title="kdmri",
        version=kdmri.__version__,
        description=kdmri.__doc__ or "",
        lifespan=lifespan,
        telemetry=traces.of_requests(settings.traces),
    )
    app.state.settings = settings
    app.include_router(routes.router)
    app.include_router(status.router)
    errors.install(app)
    app.add_middleware(Envelope)
    return app


@asynccontextmanager
async def running(app: FastAPI, settings: Settings) -> AsyncIterator[None]:
    """What requests are served with, in `app.state`."""
    scheduler = Scheduler(
        inferences=settings.inferences, capacity=settings.queue, patience=settings.batch_wait_ms / 1000
    )
    loaded = partial(
        Models,
        settings.models,
        device=settings.device,
        threads=settings.inference_threads,
        inferences=settings.inferences,
        backend=settings.backend,
    )
    models = await scheduler.prepare(loaded, threads=settings.inference_threads)
    scheduler.batch = settings.batch_on(models.device)
    shadow = Shadow(models, scheduler, rate=settings.shadow_rate)
    app.state.models, app.state.scheduler, app.state.shadow = models, scheduler, shadow
    log.info("ready", models=len(models.bundles), version=kdmri.__version__)
    yield
    scheduler.close()
    shadow.close()


class Envelope:
    """Around every request: its id, its log line, and an answer where it failed in a way that nobody foresaw.

    X-Request-ID is the client's where it is harmless, else a new one; it is in the answer and in every log line.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        asked = Headers(scope=scope).get("x-request-id", "")
        request_id = asked if REQUEST_ID.fullmatch(asked) else uuid.uuid4().hex

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
                if scope["path"] not in traces.QUIET:
                    # The route's pattern, not the path: what a client put into an address stays out of the log.
                    route = getattr(scope.get("route"), "path", "none")
                    log.info("answered", method=scope["method"], route=route, status=message["status"])
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self.app(scope, receive, send_with_id)
            except ClientDisconnect:
                log.info("client left", method=scope["method"], route=getattr(scope.get("route"), "path", "none"))
            except Exception as error:
                # Raised further, it would reach the server's log with its message.
                await errors.unforeseen(error)(scope, receive, send_with_id)
