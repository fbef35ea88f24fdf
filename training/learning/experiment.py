"""KD-MRI's comparison: students of one teacher that differ by what they learn from it, and by nothing else.

Every student begins with the same weights (HEIRS excepted, which have some of the teacher's), sees the same batches,
and takes two stages of the same numbers of steps, the optimiser and its schedule starting anew with the second. The
last weights count: nothing is chosen.
"""

from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import torch
from kdmri_training.data.simulation import load_slices
from kdmri_training.evaluation.report import Report
from kdmri_training.learning.distil import Lessons, Objective
from kdmri_training.learning.fit import fit
from kdmri_training.learning.losses import cascade_loss, flow_loss, hint_loss, similarity_loss
from kdmri_training.learning.recipe import Experiment, Recipe
from kdmri_training.learning.teacher import examples, fidelity, validation_score
from kdmri_training.networks.features import cascade_images, features, first_and_later_features
from lightning.fabric import Fabric
from torch import nn

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
"""What a student learns from in its first and in its second stage. Methods that compare features take the place of
KD-MRI's attention transfer: between them only the features' loss differs."""
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
        """The last ones."""
        return self.stages[-1] / "best.pt"


def networks(recipe: Recipe, experiment: Experiment, runs: Path) -> list[Trained]:
    """The teacher, the students and their repetitions, in the order in which they are trained."""
    folder = runs / recipe.run
    plan = [(method, recipe.seed) for method in experiment.methods]
    plan += [(method, seed) for seed in experiment.seeds for method in experiment.repeated]
    students = [
        Trained(method, seed, tuple(folder / f"{method}-{seed}" / stage for stage in ("first", "second")))
        for method, seed in plan
    ]
    return [Trained("teacher", recipe.seed, (folder / "teacher",)), *students]


def untrained(recipe: Recipe, method: str, seed: int) -> nn.Module:
    """The network that a method begins with: students of a seed begin alike."""
    torch.manual_seed(seed)
    return recipe.network("teacher" if method == "teacher" else "student").to(memory_format=torch.channels_last)


def load(recipe: Recipe, trained: Trained) -> nn.Module:
    """A network as its training left it."""
    network = untrained(recipe, trained.method, trained.seed).eval()
    network.load_state_dict(torch.load(trained.weights, map_location="cpu", weights_only=True)["network"])
    return network


def run(recipe: Recipe, experiment: Experiment, data: Path, runs: Path, fabric: Fabric) -> None:
    """Train them all, with checkpoints, logs and TensorBoard files in runs/<name>-<version>; resumes where stopped."""
    train, validation = (load_slices(data, split, runs / "cache", experiment.anatomy) for split in ("train", "val"))
    score = validation_score(recipe, validation, fabric.device)
    teacher, *students = networks(recipe, experiment, runs)

    def learn(trained: Trained, network: nn.Module, objectives: list[Objective], *, first: int) -> nn.Module:
        """`first` numbers the first stage: no student sees the teacher's batches again."""
        seeded = replace(recipe, seed=trained.seed)
        for number, objective, folder in zip(count(first), objectives, trained.stages, strict=False):
            name = folder.relative_to(runs / recipe.run).as_posix()
            with Report(name, runs / recipe.run / "log.jsonl") as report:
                fit(
                    network,
                    objective,
                    examples(seeded, train, number, fabric.device),
                    score,
                    steps=recipe.steps[folder.name],
                    learning_rate=recipe.optimiser["learning_rate"],
                    folder=folder,
                    fabric=fabric,
                    report=report,
                    validations=1,
                )
        return network

    taught = learn(teacher, untrained(recipe, teacher.method, teacher.seed), [fidelity(recipe)], first=1)
    offered = _objectives(Lessons(recipe, taught, fabric))
    for student in students:
        network = untrained(recipe, student.method, student.seed)
        if student.method in HEIRS:
            _inherit(network, taught)
        learn(student, network, [offered[name] for name in METHODS[student.method]], first=2)


def _inherit(student: nn.Module, teacher: nn.Module) -> None:
    """The first and the last convolution of every denoiser, equally wide in both: what lies between is left to learn.

    After SFT-KD-Recon (Gayathri et al. 2023), where blocks of the student stand in the teacher's place.
    """
    for own, taught in zip(student.cascades, teacher.cascades, strict=True):
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
        "cascades": lessons.inside(cascade_loss, lambda network, _: cascade_images(network)),
    }


def _inner(network: nn.Module) -> int:
    """The last convolution but one."""
    return len(network.cascades[0].convolutions) - 1
