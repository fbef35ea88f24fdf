"""A recipe from volumes to two trained networks; resumes wherever it was stopped."""

from pathlib import Path

import torch
from kdmri_training.data.volumes import load_slices
from kdmri_training.learning.distil import distil
from kdmri_training.learning.recipe import Recipe
from kdmri_training.learning.teacher import supervise
from kdmri_training.networks.cascades import Network, arrange
from kdmri_training.networks.growth import drop_convolutions, grow
from kdmri_training.publishing.weights import load_weights
from lightning.fabric import Fabric
from torch import Tensor

from kdmri.bundles.manifest import Role


def run(recipe: Recipe, data: Path, runs: Path, models: Path, fabric: Fabric) -> tuple[Network, Network]:
    """Train the networks of a recipe, or go on where an earlier call was stopped.

    Args:
        recipe: what to train.
        data: folder with volumes/<split>/<anatomy>/*.nii.gz.
        runs: folder of runs; checkpoints, logs and TensorBoard files are written to <name>-<version>/<stage> in it.
        models: folder of models, read if a network starts from a bundle.
        fabric: device, precision and processes.

    Returns:
        Teacher and student.
    """
    folder = runs / recipe.run
    train, validation = (load_slices(data, split, runs / "cache") for split in ("train", "val"))
    teacher, student = (_network(recipe, role, runs, models) for role in ("teacher", "student"))
    if recipe.steps["teacher"]:
        supervise(recipe, teacher, train, validation, folder / "teacher", fabric)
    if recipe.steps.get("plain"):
        supervise(recipe, student, train, validation, folder / "plain", fabric)
    distil(recipe, student, teacher, train, validation, folder, fabric)
    return teacher, student


def weights(run: Path, role: Role) -> dict[str, Tensor]:
    """Read the weights that scored best on validation in a run; those of `plain` if the student had no teacher yet."""
    stage = "plain" if role == "student" and not (run / role).exists() else role
    best: dict[str, Tensor] = torch.load(run / stage / "best.pt", map_location="cpu", weights_only=True)["network"]
    return best


def _network(recipe: Recipe, role: Role, runs: Path, models: Path) -> Network:
    # Seeded for each network, not once for both: a role's first weights must not depend on the other's size.
    torch.manual_seed(recipe.seed)
    network = arrange(recipe.network(role), torch.channels_last)
    if role in recipe.start:
        origin = recipe.start[role]
        found = load_weights(models, origin) if "@" in origin else weights(runs / origin, role)
        # A network may start from a longer or a smaller one: first what it lacks is dropped, then what is new is added.
        shorter = drop_convolutions(found, len(network.denoisers()[0].convolutions))
        network.load_state_dict(grow(shorter, network))
    return network
