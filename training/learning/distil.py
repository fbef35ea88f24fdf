"""Stages 2 and 3: the student learns where its teacher looks, then what its teacher answers (KD-MRI, section 2.3)."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from kdmri_training.data.simulation import Slices
from kdmri_training.evaluation.report import Report
from kdmri_training.learning.fit import fit
from kdmri_training.learning.losses import DISTANCES, attention_loss, distillation_loss
from kdmri_training.learning.recipe import Recipe, Role
from kdmri_training.learning.teacher import examples, validation_score
from kdmri_training.networks.features import features
from lightning.fabric import Fabric
from torch import Tensor, nn

Objective = Callable[[nn.Module, Any], Tensor]
"""The loss of a network in training on a batch."""


class Lessons:
    """A frozen teacher, and the losses by which a student learns from it."""

    def __init__(self, recipe: Recipe, teacher: nn.Module, fabric: Fabric) -> None:
        self.recipe, self.fabric = recipe, fabric
        self.teacher = fabric.to_device(teacher.to(memory_format=torch.channels_last).eval().requires_grad_(False))

    def imitation(self, trained: nn.Module, batch: Any) -> Tensor:
        """Distance from the truth and from the teacher's answer."""
        with torch.no_grad(), self.fabric.autocast():
            taught = self.teacher(*batch.inputs())
        answer = trained(*batch.inputs())
        imitation, distance = self.recipe.distillation["imitation"], DISTANCES[self.recipe.loss]
        return distillation_loss(answer, taught, batch.target, imitation=imitation, distance=distance)

    def inside(
        self, loss: Callable[[Any, Any], Tensor], watch: Callable[[nn.Module, Role], AbstractContextManager[Any]]
    ) -> Objective:
        """`loss` of what `watch` sees inside the student and inside the teacher (features, images) on one batch."""

        def objective(trained: nn.Module, batch: Any) -> Tensor:
            with torch.no_grad(), self.fabric.autocast(), watch(self.teacher, "teacher") as taught:
                self.teacher(*batch.inputs())
            with watch(trained, "student") as learned:
                trained(*batch.inputs())
            return loss(learned, taught)

        return objective

    def layer(self, role: Role) -> int:
        """The convolution whose features are compared."""
        return self.recipe.distillation[f"{role}_layer"]

    def attention(self) -> Objective:
        """Distance between attention maps."""
        return self.inside(attention_loss, lambda network, role: features(network, self.layer(role)))


def distil(
    recipe: Recipe,
    student: nn.Module,
    teacher: nn.Module,
    train: Slices,
    validation: Slices,
    folder: Path,
    fabric: Fabric,
) -> None:
    """Train the student by attention transfer, then by reconstruction with imitation; checkpoints in folder/<stage>.

    A stage of no steps is left out, such as attention transfer for a student that goes on from an earlier run.
    """
    lessons = Lessons(recipe, teacher, fabric)
    attention = lessons.attention()
    fixed = [examples(recipe, validation, 1_000_000, fabric.device)(step) for step in range(4)]

    def attention_score(trained: nn.Module) -> float:
        with torch.no_grad():
            return -float(sum(attention(trained, batch) for batch in fixed)) / len(fixed)

    scores = {"attention": attention_score, "student": validation_score(recipe, validation, fabric.device)}
    losses = {"attention": attention, "student": lessons.imitation}
    for number, stage in enumerate(("attention", "student"), start=2):
        if not recipe.steps[stage]:
            continue
        with Report(stage, folder / "log.jsonl") as report:
            fit(
                student,
                losses[stage],
                examples(recipe, train, number, fabric.device),
                scores[stage],
                steps=recipe.steps[stage],
                learning_rate=recipe.optimiser["learning_rate"],
                folder=folder / stage,
                fabric=fabric,
                report=report,
            )
