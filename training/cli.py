"""kdmri train, evaluate, export. Heavy imports wait until a command runs: `kdmri --help` stays quick."""

from pathlib import Path
from typing import Annotated

import typer

Data = Annotated[Path, typer.Option(help="Folder with volumes/<split>/<anatomy>/*.nii.gz.")]
Runs = Annotated[Path, typer.Option(help="Folder for checkpoints and logs.")]


def train(
    recipe: Annotated[Path, typer.Argument(help="A recipe file, or the name of one in training/recipes.")],
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
