"""The commands kdmri train, evaluate and export.

Heavy imports wait until a command runs, so that `kdmri --help` stays quick.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer

from kdmri.errors import KdmriError

Data = Annotated[Path, typer.Option(envvar="KDMRI_DATA", help="Folder with volumes/<split>/<anatomy>/*.nii.gz.")]
Runs = Annotated[Path, typer.Option(help="Folder for checkpoints and logs.")]
Models = Annotated[Path, typer.Option(help="Folder of models.")]
Name = Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe file, or the name of one in training/recipes.")]

Precision = Literal["auto", "64-true", "32-true", "16-true", "bf16-true", "16-mixed", "bf16-mixed"]

PACKAGES = ("lightning", "tensorboard", "onnxscript", "matplotlib")
"""Packages of the extra `train`, which a command may find missing."""


@contextmanager
def training_packages() -> Iterator[None]:
    """Raise KdmriError with what to install if a package of the extra `train` is missing. Usable as a decorator."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name and error.name.split(".")[0] in PACKAGES:
            raise KdmriError(
                f"expected the package {error.name}, it is not there: pip install 'kdmri[train]'"
            ) from None
        raise


@training_packages()
def train(
    recipe: Name,
    data: Data,
    runs: Runs = Path("runs"),
    devices: Annotated[int, typer.Option(help="Processes (CPU) or GPUs; under torchrun as many as it starts.")] = 1,
    models: Models = Path("models"),
    precision: Annotated[
        Precision, typer.Option(help="Fabric's name of the number format; auto: bfloat16 if hardware has it.")
    ] = "auto",
) -> None:
    """Train a teacher and its student, or all students of an experiment; run it again to resume."""
    from kdmri_training.learning import experiment
    from kdmri_training.learning import recipe as recipes
    from kdmri_training.learning.precision import choose_precision
    from kdmri_training.learning.run import run
    from lightning.fabric import Fabric
    from lightning.fabric.strategies.ddp import DDPStrategy

    chosen = recipes.load(recipe)
    # The graph is declared static, because attention transfer leaves some convolutions without a gradient, the same
    # ones in every step. Otherwise DDP waits for gradients that never come.
    strategy = DDPStrategy(static_graph=True) if devices > 1 else "auto"
    number_format = choose_precision() if precision == "auto" else precision
    fabric = Fabric(accelerator="auto", devices=devices, strategy=strategy, precision=number_format)
    fabric.launch()
    fabric.print(f"precision {number_format}")
    if chosen.experiment:
        experiment.run(chosen, chosen.experiment, data, runs, fabric)
    else:
        run(chosen, data, runs, models, fabric)


@training_packages()
def export(
    recipe: Name,
    data: Data,
    runs: Runs = Path("runs"),
    models: Models = Path("models"),
) -> None:
    """Write what a recipe trained as bundles, checked for parity and scored on the test split."""
    from kdmri_training.learning import recipe as recipes
    from kdmri_training.publishing import export as bundles

    from kdmri.errors import InvalidRequest

    wanted = recipes.load(recipe)
    if wanted.experiment:
        raise InvalidRequest(
            f"expected the recipe of a pair to ship, {wanted.file} is an experiment: kdmri evaluate it"
        )
    for role, stages in recipes.STAGES.items():
        if not any(wanted.steps.get(stage) for stage in stages):
            continue
        bundle = bundles.export(wanted, role, runs, data, models)
        typer.echo(f"{bundle.manifest.reference} -> {bundle.folder}")


@training_packages()
def evaluate(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for tables and figures.")],
    data: Data,
    recipe: Annotated[
        list[Path] | None, typer.Argument(metavar="[RECIPE]...", help="Experiments that were trained.")
    ] = None,
    runs: Runs = Path("runs"),
    models: Models = Path("models"),
    split: Annotated[str, typer.Option(help="val to choose by, test to report.")] = "test",
) -> None:
    """Score each role's newest bundle and the plain baselines on whole volumes and on raw k-space.

    One CSV row a volume, one Markdown row a mean over volumes or, for raw k-space, over five masks. With RECIPEs: score
    what those experiments trained, write tables, paired gains and figures, and the page OUTPUT.md over them.
    """
    if recipe:
        from kdmri_training.evaluation import results
        from kdmri_training.learning import recipe as recipes

        from kdmri.bundles.manifest import ROLES
        from kdmri.bundles.store import choose, load_all
        from kdmri.errors import InvalidRequest
        from kdmri.runtime.model import load_model

        experiments = [recipes.load(name) for name in recipe]
        if others := [chosen.file for chosen in experiments if not chosen.experiment]:
            raise InvalidRequest(f"expected recipes of experiments, got {', '.join(others)}")
        bundles = load_all(models)
        served = [load_model(choose(bundles, "reconstruction", role=role)) for role in ROLES]
        results.write(experiments, data, runs, output, split, served)
        typer.echo(f"{len(recipe)} experiments -> {output}.md")
    else:
        _evaluate_bundles(output, data, models, split)


def _evaluate_bundles(output: Path, data: Path, models: Path, split: str) -> None:
    from kdmri_training.evaluation import evaluate as scores
    from kdmri_training.evaluation import raw
    from kdmri_training.evaluation.tables import write

    from kdmri.bundles.manifest import ROLES
    from kdmri.bundles.store import choose, load_all
    from kdmri.runtime.model import load_model

    bundles = load_all(models)
    restorers = [load_model(choose(bundles, "reconstruction", role=role)) for role in ROLES]
    enlargers = [load_model(choose(bundles, "super-resolution", role=role)) for role in ROLES]
    entries = [entry for model in restorers + enlargers for entry in scores.evaluate(model, data, split)]
    entries += raw.evaluate(restorers, data)
    write(entries, output)
    typer.echo(f"{len(entries)} scores -> {output}")
