"""kdmri serve."""

from typing import Annotated

import typer


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; KDMRI_HOST.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on, 0 for a free one; KDMRI_PORT.")] = None,
) -> None:
    """Run the HTTP service."""
    import uvicorn

    from service.app import create_app
    from service.settings import Settings

    flags = {"host": host, "port": port}
    settings = Settings(**{name: value for name, value in flags.items() if value is not None})  # type: ignore[arg-type]
    # Our own lines are the access log; uvicorn's would hold paths and peers without a request id.
    uvicorn.run(create_app(settings), host=settings.host, port=settings.port, access_log=False, server_header=False)
