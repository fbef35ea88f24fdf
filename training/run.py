"""A recipe from volumes to two trained networks; resumes wherever it was stopped."""

from pathlib import Path

from lightning.fabric import Fabric
from torch import nn

from training.data import load_slices
from training.distil import distil
from training.recipe import Recipe
from training.teacher import train_supervised


def run(recipe: Recipe, data: Path, runs: Path, fabric: Fabric) -> tuple[nn.Module, nn.Module]:
    """(teacher, student), with checkpoints, logs and TensorBoard files in runs/<name>-<version>/<stage>."""
    folder = runs / f"{recipe.name}-{recipe.version}"
    train, validation = (load_slices(data, split, runs / "cache") for split in ("train", "val"))
    teacher = train_supervised(
        recipe, "teacher", train, validation, folder / "teacher", fabric, steps=recipe.steps["teacher"]
    )
    return teacher, distil(recipe, teacher, train, validation, folder, fabric)
