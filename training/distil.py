"""Stages 2 and 3: the student learns where its teacher looks, then what its teacher answers (KD-MRI, section 2.3)."""

from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from training.data import Slices
from training.fit import fit
from training.losses import attention_loss, distillation_loss
from training.networks import features
from training.recipe import Recipe
from training.report import Report
from training.teacher import examples, validation_score


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

    A stage of no steps is left out: a student that goes on from an earlier run has its attention already.
    """
    teacher = fabric.setup_module(teacher.to(memory_format=torch.channels_last).eval().requires_grad_(False))
    layers = recipe.distillation["teacher_layer"], recipe.distillation["student_layer"]

    def attention(trained: nn.Module, batch: Any) -> Tensor:
        with torch.no_grad(), features(teacher, layers[0]) as seen_by_teacher:
            teacher(*batch.inputs())
        with features(trained, layers[1]) as seen_by_student:
            trained(*batch.inputs())
        return attention_loss(seen_by_student, seen_by_teacher)

    def imitation(trained: nn.Module, batch: Any) -> Tensor:
        with torch.no_grad():
            taught = teacher(*batch.inputs())
        answer = trained(*batch.inputs())
        return distillation_loss(answer, taught, batch.target, imitation=recipe.distillation["imitation"])

    fixed = [examples(recipe, validation, 1_000_000, fabric.device)(step) for step in range(4)]

    def attention_score(trained: nn.Module) -> float:
        with torch.no_grad():
            return -float(sum(attention(trained, batch) for batch in fixed)) / len(fixed)

    scores = {"attention": attention_score, "student": validation_score(recipe, validation, fabric.device)}
    losses = {"attention": attention, "student": imitation}
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
