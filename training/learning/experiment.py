"""KD-MRI's comparison: students of one teacher that differ by what they learn from it, and by nothing else.

Every student begins with the same weights (HEIRS excepted, which have some of the teacher's), sees the same batches,
and takes two stages of the same numbers of steps, the optimiser and its schedule starting anew with the second. The
last weights count: nothing is chosen.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import cast

import torch
from jaxtyping import Complex
from kdmri_training.data.volumes import load_slices
from kdmri_training.learning.distil import Lessons
from kdmri_training.learning.fit import Objective, Stage, fit
from kdmri_training.learning.losses import cascade_loss, flow_loss, hint_loss, similarity_loss
from kdmri_training.learning.recipe import Experiment, Recipe
from kdmri_training.learning.teacher import examples, fidelity, validation_score
from kdmri_training.networks.cascades import DCCNN, Network, arrange
from kdmri_training.networks.features import cascade_images, features, first_and_later_features
from lightning.fabric import Fabric
from torch import Tensor

from kdmri.errors import InvalidRequest

METHODS = {
    "plain": ("fidelity", "fidelity"),
    "kd": ("attention", "imitation"),
    "attention": ("attention", "fidelity"),
    "imitation": ("imitation", "imitation"),
    "fitnets": ("hints", "imitation"),
    "sp": ("similarity", "imitation"),
    "fsp": ("flow", "imitation"),
    "cascades": ("cascades", "imitation"),
    "inherited": ("late hints", "imitation"),
    "outer": ("fidelity", "fidelity"),
}
"""Losses of a student's first and second stage. Methods that compare features take the place of KD-MRI's attention
transfer: between them only the features' loss differs."""
HEIRS = ("inherited", "outer")
"""Methods whose students begin with the teacher's first and last convolution of every denoiser."""
TITLES = {
    "zero-filled": "zero-filled",
    "teacher": "teacher",
    "plain": "student",
    "kd": "student + KD",
    "attention": "attention transfer only",
    "imitation": "imitation only",
    "fitnets": "FitNets hints",
    "sp": "similarity-preserving",
    "fsp": "FSP",
    "cascades": "imitation in every cascade (not the paper's)",
    "inherited": "teacher's outer convolutions + hints (not the paper's)",
    "outer": "teacher's outer convolutions alone (not the paper's)",
    "served teacher": "the teacher that is served",
    "served student": "the student that is served",
}


@dataclass(frozen=True)
class Trained:
    """A network of an experiment, and the folders of checkpoints of its stages."""

    method: str
    seed: int
    stages: tuple[Path, ...]

    @property
    def weights(self) -> Path:
        """File of the last stage's weights."""
        return self.stages[-1] / "best.pt"


def networks(recipe: Recipe, experiment: Experiment, runs: Path) -> list[Trained]:
    """List the teacher, the students and their repetitions, in the order in which they are trained.

    Args:
        recipe: the recipe.
        experiment: the recipe's experiment.
        runs: folder of runs.
    """
    folder = runs / recipe.run
    plan = [(method, recipe.seed) for method in experiment.methods]
    plan += [(method, seed) for seed in experiment.seeds for method in experiment.repeated]
    students = [
        Trained(method, seed, tuple(folder / f"{method}-{seed}" / stage for stage in ("first", "second")))
        for method, seed in plan
    ]
    return [Trained("teacher", recipe.seed, (folder / "teacher",)), *students]


def initial_network(recipe: Recipe, method: str, seed: int) -> Network:
    """Build the network that a method begins with: students of a seed begin with the same weights.

    Args:
        recipe: the recipe.
        method: "teacher", or a name in METHODS.
        seed: seed of the weights.
    """
    torch.manual_seed(seed)
    return arrange(recipe.network("teacher" if method == "teacher" else "student"), torch.channels_last)


def load(recipe: Recipe, trained: Trained) -> Network:
    """Load a network with its last weights."""
    network = initial_network(recipe, trained.method, trained.seed).eval()
    network.load_state_dict(torch.load(trained.weights, map_location="cpu", weights_only=True)["network"])
    return network


def run(recipe: Recipe, experiment: Experiment, data: Path, runs: Path, fabric: Fabric) -> None:
    """Train an experiment's networks, or go on where an earlier call was stopped.

    Args:
        recipe: the recipe.
        experiment: the recipe's experiment.
        data: folder with volumes/<split>/<anatomy>/*.nii.gz.
        runs: folder of runs; checkpoints, logs and TensorBoard files are written to <name>-<version> in it.
        fabric: device, precision and processes.
    """
    train, validation = (load_slices(data, split, runs / "cache", experiment.anatomy) for split in ("train", "val"))
    score = validation_score(recipe, validation, fabric.device)
    teacher, *students = networks(recipe, experiment, runs)

    def learn(trained: Trained, network: Network, objectives: list[Objective], *, first: int) -> Network:
        """Train a network; `first` numbers its first stage, so that no student sees the teacher's batches again."""
        # A repetition differs by the seed of its batches, too, and not by its first weights alone.
        seeded = replace(recipe, seed=trained.seed)
        for number, objective, folder in zip(count(first), objectives, trained.stages, strict=False):
            # One validation, after the last step: weights chosen on validation data would favour methods whose score
            # varies more from step to step.
            stage = Stage(
                folder, runs / recipe.run, recipe.steps[folder.name], recipe.optimiser["learning_rate"], validations=1
            )
            fit(network, objective, examples(seeded, train, number, fabric.device), score, stage, fabric)
        return network

    taught = learn(teacher, initial_network(recipe, teacher.method, teacher.seed), [fidelity(recipe)], first=1)
    objectives = _objectives(Lessons(recipe, taught, fabric))
    for student in students:
        network = initial_network(recipe, student.method, student.seed)
        if student.method in HEIRS:
            _inherit(network, taught)
        learn(student, network, [objectives[name] for name in METHODS[student.method]], first=2)


def _inherit(student: Network, teacher: Network) -> None:
    """Copy the first and the last convolution of every denoiser, equally wide in both; the others are left to learn.

    After SFT-KD-Recon (Gayathri et al. 2023), where blocks of the student stand in the teacher's place.
    """
    for own, taught in zip(student.denoisers(), teacher.denoisers(), strict=True):
        for end in (0, -1):
            own.convolutions[end].load_state_dict(taught.convolutions[end].state_dict())


def _objectives(lessons: Lessons) -> dict[str, Objective]:
    layer = lessons.layer
    return {
        "fidelity": fidelity(lessons.recipe),
        "imitation": lessons.imitation,
        "attention": lessons.attention(),
        "hints": lessons.inside(hint_loss, lambda network, role: features(network, layer(role))),
        "late hints": lessons.inside(hint_loss, lambda network, _: features(network, _inner(network))),
        "similarity": lessons.inside(similarity_loss, lambda network, role: features(network, layer(role))),
        "flow": lessons.inside(flow_loss, lambda network, role: first_and_later_features(network, layer(role))),
        "cascades": lessons.inside(cascade_loss, lambda network, _: _images(network)),
    }


def _images(network: Network) -> AbstractContextManager[list[Complex[Tensor, "batch row column"]]]:
    # Looked up by name: Fabric's wrapper, which networks in training are in, is no DCCNN but has its attributes.
    if not hasattr(network, "consistency"):
        raise InvalidRequest("expected a network of several cascades for imitation in every cascade, got VDSR")
    return cascade_images(cast(DCCNN, network))


def _inner(network: Network) -> int:
    """Return the number of the last convolution but one."""
    return len(network.denoisers()[0].convolutions) - 1
