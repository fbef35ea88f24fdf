"""The commands `kdmri serve`, `kdmri keys` and `kdmri audit`."""

import asyncio
import signal
import sys
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, cast

import typer
from kdmri_service.auth import chain
from kdmri_service.auth.keys import add_key, read_keys, revoke_key
from kdmri_service.auth.principals import Scope

from kdmri.errors import InvalidRequest

HUNG_SECONDS = 60
"""Seconds without a sign of life after which a worker is replaced: imports and models load slowly on a busy machine."""
CLOSE_SECONDS = 5
"""Seconds that connections may take to close after the service has drained."""


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; KDMRI_HOST.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on, 0 for a free one; KDMRI_PORT.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that answer, by default 1; KDMRI_WORKERS.")] = None,
) -> None:
    """Run the HTTP service."""
    import uvicorn
    from kdmri_service.observability import logs
    from kdmri_service.observability.multiprocess import shared_metrics
    from kdmri_service.processes import disable_core_dumps
    from kdmri_service.settings import Settings
    from kdmri_service.tls import server_context
    from kdmri_service.transports.http.connections import ConnectionLimits, LimitedProtocol, raise_descriptor_limit

    # A flag that is not given leaves the environment variable in force, which a None would hide.
    flags = {"host": host, "port": port, "workers": workers}
    settings = Settings(**{name: value for name, value in flags.items() if value is not None})  # type: ignore[arg-type]
    limits = ConnectionLimits(
        raise_descriptor_limit(settings.connections),
        settings.connections_per_client,
        settings.window_seconds,
        settings.bytes_per_second,
    )
    if (settings.tls_certificate is None) != (settings.tls_key is None):
        raise InvalidRequest("expected KDMRI_TLS_CERTIFICATE and KDMRI_TLS_KEY together, got one of them")
    tls = None
    if settings.tls_certificate is not None and settings.tls_key is not None:
        tls = partial(server_context, settings.tls_certificate, settings.tls_key)
    # Memory holds patient data.
    disable_core_dumps()
    # uvicorn ends well on SIGTERM and then sends the signal to itself, for which Python would report a failure.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    # prometheus-client shares its values only if it is imported after this, which the workers do.
    with shared_metrics() if settings.workers > 1 else nullcontext():
        uvicorn.run(
            # By name: several workers are started as new processes, which import it for themselves.
            "kdmri_service.app:create_app",
            factory=True,
            # uvicorn calls what it is given here with its own arguments, as it would call the class.
            http=cast(type[asyncio.Protocol], partial(LimitedProtocol, limits=limits)),
            ssl_context_factory=tls,
            host=settings.host,
            port=settings.port,
            workers=settings.workers,
            log_config=logs.UVICORN,
            # The service's own lines are the access log; uvicorn's would hold paths and peers without a request id.
            access_log=False,
            server_header=False,
            timeout_worker_healthcheck=HUNG_SECONDS,
            timeout_graceful_shutdown=CLOSE_SECONDS,
        )


keys = typer.Typer(no_args_is_help=True, help="Make, list and revoke API keys of the HTTP service.")
KeyFile = Annotated[Path, typer.Option("--file", envvar="KDMRI_KEYS", help="File of keys; KDMRI_KEYS.")]


@keys.command("add")
def add(
    name: Annotated[str, typer.Argument(help="Names the key in logs: a person, a machine, a department.")],
    file: KeyFile,
    scope: Annotated[list[Scope] | None, typer.Option(help="What it allows; infer by default. Repeatable.")] = None,
    days: Annotated[int | None, typer.Option(min=1, help="Days until it expires; by default it does not.")] = None,
) -> None:
    """Make a key and print it: it is shown once, and kept as a hash."""
    # In UTC, so that a key expires at one moment on all machines that share the file.
    expires = None if days is None else datetime.now(UTC) + timedelta(days=days)
    typer.echo(add_key(file, name, scope or [Scope.infer], expires))


@keys.command("list")
def list_keys(file: KeyFile) -> None:
    """List the keys: id, name, scopes, and until when each is valid."""
    now = datetime.now(UTC)
    for record in read_keys(file):
        until = "for ever" if record.expires is None else f"until {record.expires:%Y-%m-%d %H:%M} UTC"
        state = f"valid {until}" if record.is_valid(now) else "revoked" if record.revoked else "expired"
        typer.echo(f"{record.id}  {record.name}  {','.join(record.scopes)}  {state}")


@keys.command("revoke")
def revoke(name: Annotated[str, typer.Argument(help="Name or id.")], file: KeyFile) -> None:
    """Revoke the keys of a name, or one by its id. A running service refuses them at once."""
    typer.echo(f"{revoke_key(file, name)} revoked")


audit = typer.Typer(no_args_is_help=True, help="Check the audit trail of the HTTP service.")


@audit.callback()
def audit_commands() -> None:
    """Keep `verify` a subcommand: typer would make the only command the whole of it."""


@audit.command("verify")
def verify(
    files: Annotated[list[Path], typer.Argument(exists=True, dir_okay=False, help="Files of one trail, oldest first.")],
    contains: Annotated[str | None, typer.Option(help="SHA-256 of a line that must be there, noted earlier.")] = None,
) -> None:
    """Check that no line of an audit trail was changed, removed or moved; print the hash of its last line."""
    end = chain.verify(files)
    if isinstance(end, chain.Break):
        typer.echo(f"{end.file}, line {end.line}: {end.reason}", err=True)
        raise typer.Exit(1)
    if contains is not None and not chain.find(files, contains):
        typer.echo(f"expected a line with the hash {contains[:64]}, found none", err=True)
        raise typer.Exit(1)
    typer.echo(f"{end.sequence} lines; the last one has the hash {end.digest}")
