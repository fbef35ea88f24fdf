"""Stage 1: the teacher learns from the truth. The plain student, its baseline, is trained in the same way."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from kdmri_training.data.simulation import (
    Simulation,
    Slices,
    Truncation,
    Undersampling,
    enlargement_batch,
    reconstruction_batch,
    undersampled_batch,
)
from kdmri_training.evaluation.report import Report
from kdmri_training.learning.fit import fit
from kdmri_training.learning.losses import DISTANCES
from kdmri_training.learning.recipe import Recipe
from lightning.fabric import Fabric
from torch import Tensor, nn

VALIDATION_BATCHES = 12
BATCHES = {Simulation: reconstruction_batch, Truncation: enlargement_batch, Undersampling: undersampled_batch}


def examples(recipe: Recipe, slices: Slices, stage: int, device: torch.device) -> Callable[[int], Any]:
    """The batch of a step, a function of the recipe's seed, the stage and the step alone."""
    batch = BATCHES[type(recipe.data)]

    def draw(step: int) -> Any:
        rng = np.random.default_rng([recipe.seed, stage, step])
        return batch(slices, recipe.data, rng).to(device)

    return draw


def validation_score(recipe: Recipe, slices: Slices, device: torch.device) -> Callable[[nn.Module], float]:
    """Mean PSNR in dB over a fixed set of validation examples; bright tissue counts as the peak."""
    draw = examples(recipe, slices, 1_000_000, device)
    batches = [draw(step) for step in range(VALIDATION_BATCHES)]

    @torch.no_grad()
    def score(network: nn.Module) -> float:
        network.eval()
        errors = [(network(*b.inputs()).abs() - b.target.abs()).square().mean(dim=(-2, -1)) for b in batches]
        network.train()
        return float(-10 * torch.log10(torch.cat(errors)).mean())

    return score


def fidelity(recipe: Recipe) -> Callable[[nn.Module, Any], Tensor]:
    """Distance from the truth."""
    distance = DISTANCES[recipe.loss]
    return lambda trained, batch: distance(trained(*batch.inputs()), batch.target)


def supervise(
    recipe: Recipe, network: nn.Module, train: Slices, validation: Slices, folder: Path, fabric: Fabric, *, steps: int
) -> None:
    """Train a network on the truth alone."""
    with Report(folder.name, folder.parent / "log.jsonl") as report:
        fit(
            network,
            fidelity(recipe),
            examples(recipe, train, 1, fabric.device),
            validation_score(recipe, validation, fabric.device),
            steps=steps,
            learning_rate=recipe.optimiser["learning_rate"],
            folder=folder,
            fabric=fabric,
            report=report,
        )
