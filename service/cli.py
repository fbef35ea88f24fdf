"""kdmri serve."""

from contextlib import nullcontext
from typing import Annotated

import typer

HUNG_SECONDS = 60
"""Without a sign of life for so long a worker is replaced. Imports and models on a busy machine take their time."""


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; KDMRI_HOST.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on, 0 for a free one; KDMRI_PORT.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that answer, by default 1; KDMRI_WORKERS.")] = None,
) -> None:
    """Run the HTTP service."""
    import uvicorn
    from kdmri_service.observability import logs
    from kdmri_service.observability.multiprocess import shared_metrics
    from kdmri_service.settings import Settings

    flags = {"host": host, "port": port, "workers": workers}
    settings = Settings(**{name: value for name, value in flags.items() if value is not None})  # type: ignore[arg-type]
    # Only where prometheus-client is first imported after this, in the workers, does it share its values.
    with shared_metrics() if settings.workers > 1 else nullcontext():
        uvicorn.run(
            "kdmri_service.app:create_app",
            factory=True,
            host=settings.host,
            port=settings.port,
            workers=settings.workers,
            log_config=logs.UVICORN,
            # Our own lines are the access log; uvicorn's would hold paths and peers without a request id.
            access_log=False,
            server_header=False,
            timeout_worker_healthcheck=HUNG_SECONDS,
        )
