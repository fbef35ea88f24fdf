"""Stages 2 and 3: the student learns where its teacher looks, then what its teacher answers (KD-MRI, section 2.3)."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeVar

import torch
from kdmri_training.data.batch import Batch
from kdmri_training.data.volumes import Slices
from kdmri_training.learning.fit import Objective, Stage, fit
from kdmri_training.learning.losses import DISTANCES, attention_loss, distillation_loss, total
from kdmri_training.learning.recipe import Recipe
from kdmri_training.learning.teacher import VALIDATION_STAGE, examples, validation_score
from kdmri_training.networks.cascades import Network, arrange
from kdmri_training.networks.features import features
from lightning.fabric import Fabric
from torch import Tensor

from kdmri.bundles.manifest import Role

Insides = TypeVar("Insides")
"""Record of one call of a network: its features, or its images after each cascade."""


class Lessons:
    """A frozen teacher, and the losses by which a student learns from it."""

    def __init__(self, recipe: Recipe, teacher: Network, fabric: Fabric) -> None:
        self.recipe, self.fabric = recipe, fabric
        self.teacher = arrange(teacher, torch.channels_last).eval().requires_grad_(False)
        # Moved in place, as modules are: the value returned is the same module under a wider type.
        fabric.to_device(self.teacher)

    def imitation(self, trained: Network, batch: Batch) -> Tensor:
        """Compute the distance from the truth and from the teacher's answer."""
        with torch.no_grad(), self.fabric.autocast():
            taught = self.teacher(*batch.inputs())
        answer = trained(*batch.inputs())
        imitation, distance = self.recipe.distillation["imitation"], DISTANCES[self.recipe.loss]
        return distillation_loss(answer, taught, batch.target, imitation=imitation, distance=distance)

    def inside(
        self,
        loss: Callable[[Insides, Insides], Tensor],
        watch: Callable[[Network, Role], AbstractContextManager[Insides]],
    ) -> Objective:
        """Return `loss` of what `watch` records inside the student and inside the teacher on one batch."""

        def objective(trained: Network, batch: Batch) -> Tensor:
            # Both see the same batch: the teacher first, without gradients, whose memory the student's pass then has.
            with torch.no_grad(), self.fabric.autocast(), watch(self.teacher, "teacher") as taught:
                self.teacher(*batch.inputs())
            with watch(trained, "student") as learned:
                trained(*batch.inputs())
            return loss(learned, taught)

        return objective

    def layer(self, role: Role) -> int:
        """Return the number of the convolution whose features are compared."""
        numbers = self.recipe.distillation
        return numbers["teacher_layer"] if role == "teacher" else numbers["student_layer"]

    def attention(self) -> Objective:
        """Return the distance between attention maps as a loss."""
        return self.inside(attention_loss, lambda network, role: features(network, self.layer(role)))


def distil(
    recipe: Recipe,
    student: Network,
    teacher: Network,
    train: Slices,
    validation: Slices,
    folder: Path,
    fabric: Fabric,
) -> None:
    """Train the student by attention transfer, then by reconstruction with imitation; checkpoints in folder/<stage>.

    A stage of no steps is left out, such as attention transfer for a student that goes on from an earlier run.

    Args:
        recipe: the recipe.
        student: the student, trained in place.
        teacher: the teacher, which stays as it is.
        train: slices of the train split.
        validation: slices of the validation split.
        folder: folder of the run.
        fabric: device, precision and processes.
    """
    lessons = Lessons(recipe, teacher, fabric)
    attention = lessons.attention()
    # Four batches for the score of the first stage, which only chooses among checkpoints and is in no table.
    fixed = [examples(recipe, validation, VALIDATION_STAGE, fabric.device)(step) for step in range(4)]

    def attention_score(trained: Network) -> float:
        with torch.no_grad():
            return -float(total(attention(trained, batch) for batch in fixed)) / len(fixed)

    scores = {"attention": attention_score, "student": validation_score(recipe, validation, fabric.device)}
    losses: dict[str, Objective] = {"attention": attention, "student": lessons.imitation}
    # Stage 1 is the teacher's: batches are drawn by the stage's number, and the student must see others.
    for number, name in enumerate(("attention", "student"), start=2):
        if not recipe.steps[name]:
            continue
        stage = Stage(folder / name, folder, recipe.steps[name], recipe.optimiser["learning_rate"])
        fit(student, losses[name], examples(recipe, train, number, fabric.device), scores[name], stage, fabric)
