"""Options and output that the groups of commands share."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from kdmri.bundles.location import models_folder
from kdmri.errors import UnreadableInput

errors = Console(stderr=True)
"""Everything but a command's result goes to standard error."""

# The values of kdmri.bundles.manifest.Role, which this module does not import: `kdmri --help` needs no pydantic.
RoleChoice = Literal["student", "teacher"]
ModelsOption = Annotated[Path, typer.Option("--models", envvar="KDMRI_MODELS", help="Folder of models.")]
ModelOption = Annotated[str | None, typer.Option("--model", help="NAME or NAME@VERSION.")]
RoleOption = Annotated[RoleChoice, typer.Option("--role", help="Which of a pair of models runs.")]
OutputOption = Annotated[Path | None, typer.Option("--output", "-o", help="File or folder to write.")]
MODELS = models_folder()
"""Default of `--models`, read once: typer shows it in the help."""


def require(source: Path) -> Path:
    """Return a path that exists. Raises UnreadableInput if it does not."""
    if not source.exists():
        raise UnreadableInput(f"expected a file or folder, {source.name} is not there")
    return source


def report(summary: str, target: Path, notes: Sequence[str] = ()) -> None:
    """Print what was written where, after the notes of reading.

    Args:
        summary: what was made, such as the number of slices and the model.
        target: file or folder that it was written to.
        notes: sentences on what was left out or chosen while the source was read, without patient data.
    """
    for note in notes:
        print_plain(f"note: {note}")
    print_plain(f"{summary} -> {target}")


def print_plain(text: str, style: str | None = None) -> None:
    """Print one line to standard error, without rich's markup, highlighting and wrapping: it may quote a file name."""
    errors.print(text, style=style, highlight=False, markup=False, soft_wrap=True)
