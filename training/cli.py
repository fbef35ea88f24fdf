"""kdmri train, evaluate, export. Heavy imports wait until a command runs: `kdmri --help` stays quick."""

from pathlib import Path
from typing import Annotated

import typer

Data = Annotated[Path, typer.Option(help="Folder with volumes/<split>/<anatomy>/*.nii.gz.")]
Runs = Annotated[Path, typer.Option(help="Folder for checkpoints and logs.")]


Models = Annotated[Path, typer.Option(help="Folder of models.")]
Name = Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe file, or the name of one in training/recipes.")]


def train(
    recipe: Name,
    data: Data = Path("../shared/data"),
    runs: Runs = Path("runs"),
    devices: Annotated[int, typer.Option(help="Processes (CPU) or GPUs.")] = 1,
) -> None:
    """Train a teacher and its student; run it again to resume."""
    from lightning.fabric import Fabric

    from training import recipe as recipes
    from training.run import run

    fabric = Fabric(accelerator="auto", devices=devices, precision="bf16-mixed")
    fabric.launch()
    run(recipes.load(recipe), data, runs, fabric)


def export(
    recipe: Name,
    data: Data = Path("../shared/data"),
    runs: Runs = Path("runs"),
    models: Models = Path("models"),
) -> None:
    """Write what a recipe trained as bundles, checked for parity and scored on the test split."""
    from training import export as bundles
    from training import recipe as recipes

    wanted = recipes.load(recipe)
    for role in ("teacher", "student"):
        if not wanted.steps[role]:
            continue
        bundle = bundles.export(wanted, role, runs, data, models)
        typer.echo(f"{bundle.manifest.reference} -> {bundle.folder}")


def evaluate(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for scores.csv and scores.md.")],
    data: Data = Path("../shared/data"),
    models: Models = Path("models"),
    split: Annotated[str, typer.Option(help="val to choose by, test to report.")] = "test",
) -> None:
    """Score each role's newest bundle and the plain baselines on whole volumes and on raw k-space.

    One CSV row a volume, one Markdown row a mean over volumes or, for raw k-space, over five masks.
    """
    from kdmri.bundle import ROLES, choose, load_all
    from kdmri.runtime.model import load_model
    from training import evaluate as scores
    from training import raw
    from training.tables import write

    bundles = load_all(models)
    restorers = [load_model(choose(bundles, "reconstruction", role=role)) for role in ROLES]
    enlargers = [load_model(choose(bundles, "super-resolution", role=role)) for role in ROLES]
    entries = [entry for model in restorers + enlargers for entry in scores.evaluate(model, data, split)]
    entries += raw.evaluate(restorers, data)
    write(entries, output)
    typer.echo(f"{len(entries)} scores -> {output}")
