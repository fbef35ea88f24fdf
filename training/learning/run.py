"""A recipe from volumes to two trained networks; resumes wherever it was stopped."""

from pathlib import Path

import torch
from kdmri_training.data.simulation import load_slices
from kdmri_training.learning.distil import distil
from kdmri_training.learning.recipe import Recipe, Role
from kdmri_training.learning.teacher import supervise
from kdmri_training.networks.cascades import DCCNN, deepened, shortened
from lightning.fabric import Fabric
from torch import Tensor, nn


def run(recipe: Recipe, data: Path, runs: Path, fabric: Fabric) -> tuple[nn.Module, nn.Module]:
    """(teacher, student), with checkpoints, logs and TensorBoard files in runs/<name>-<version>/<stage>."""
    folder = runs / recipe.run
    train, validation = (load_slices(data, split, runs / "cache") for split in ("train", "val"))
    teacher, student = (_network(recipe, role, runs) for role in ("teacher", "student"))
    if recipe.steps["teacher"]:
        supervise(recipe, teacher, train, validation, folder / "teacher", fabric, steps=recipe.steps["teacher"])
    if recipe.steps.get("plain"):
        supervise(recipe, student, train, validation, folder / "plain", fabric, steps=recipe.steps["plain"])
    distil(recipe, student, teacher, train, validation, folder, fabric)
    return teacher, student


def weights(run: Path, role: Role) -> dict[str, Tensor]:
    """The weights of a run that scored best on validation; of a student that had no teacher yet, those of `plain`."""
    stage = "plain" if role == "student" and not (run / role).exists() else role
    best: dict[str, Tensor] = torch.load(run / stage / "best.pt", map_location="cpu", weights_only=True)["network"]
    return best


def _network(recipe: Recipe, role: Role, runs: Path) -> nn.Module:
    torch.manual_seed(recipe.seed)
    network = recipe.network(role).to(memory_format=torch.channels_last)
    if role in recipe.start:
        start = shortened(weights(runs / recipe.start[role], role), len(network.cascades[0].convolutions))
        if isinstance(network, DCCNN):
            start = deepened(start, len(network.cascades))
        network.load_state_dict(start)
    return network
