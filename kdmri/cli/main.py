"""The command kdmri. Exit 0 on success, 2 on a usage error, 1 with one clear line on anything else."""

import os
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated

import typer

import kdmri
from kdmri.cli import inference, models, sampling
from kdmri.cli.common import print_plain
from kdmri.errors import KdmriError
from kdmri.process import configure_environment

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=kdmri.__doc__)

app.command()(inference.reconstruct)
app.command()(inference.super_resolve)
app.command()(sampling.undersample)
app.command(name="models")(models.list_models)
app.command()(models.bench)


@app.callback()
def options(debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False) -> None:
    """Accelerated MRI reconstruction and super-resolution by distilled networks."""
    # Through the environment, so that KDMRI_DEBUG=1 does the same where the option can't be given.
    if debug:
        os.environ["KDMRI_DEBUG"] = "1"


def add_commands(target: typer.Typer) -> None:
    """Add the commands (serve, train) and command groups (keys) that other packages name as kdmri.commands."""
    # By entry point, because import-linter allows kdmri no import of the service and the training that offer them.
    for command in entry_points(group="kdmri.commands"):
        loaded = command.load()
        if isinstance(loaded, typer.Typer):
            target.add_typer(loaded, name=command.name)
        else:
            target.command(name=command.name)(loaded)


def main() -> None:
    """Run the command line."""
    # Before any command imports torch, which reads these variables once.
    configure_environment()
    add_commands(app)
    try:
        app()
    except (KdmriError, OSError) as error:
        _fail(error)


def _fail(error: Exception) -> None:
    """Print one line and exit with status 1. An OSError names its file without the folders that lead to it."""
    if os.environ.get("KDMRI_DEBUG"):
        raise error
    # The folders may name a patient; the file's own name is what the user typed or chose from a list.
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    name = f" ({Path(error.filename).name})" if isinstance(error, OSError) and error.filename else ""
    print_plain(f"kdmri: {text}{name}", style="red")
    raise SystemExit(1) from None
