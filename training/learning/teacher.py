"""Stage 1: the teacher learns from the truth. The plain student, its baseline, is trained in the same way."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from kdmri_training.data.batch import Batch
from kdmri_training.data.enlargement import Truncation, enlargement_batch
from kdmri_training.data.simulation import Simulation, reconstruction_batch, undersampled_batch
from kdmri_training.data.volumes import Slices
from kdmri_training.learning.fit import Objective, Score, Stage, fit
from kdmri_training.learning.losses import DISTANCES
from kdmri_training.learning.recipe import Recipe
from kdmri_training.networks.cascades import Network
from lightning.fabric import Fabric
from torch import Tensor

VALIDATION_BATCHES = 12
# Far above the numbers of training's stages: a validation example must not be drawn as a training batch is.
VALIDATION_STAGE = 1_000_000


def examples(recipe: Recipe, slices: Slices, stage: int, device: torch.device) -> Callable[[int], Batch]:
    """Return a function that draws the batch of a step, determined by the recipe's seed, the stage and the step.

    Args:
        recipe: the recipe.
        slices: magnitude images.
        stage: number of the stage; VALIDATION_STAGE for validation.
        device: device of the batches.
    """

    def draw(step: int) -> Batch:
        rng = np.random.default_rng([recipe.seed, stage, step])
        if isinstance(recipe.data, Simulation):
            return reconstruction_batch(slices, recipe.data, rng).to(device)
        if isinstance(recipe.data, Truncation):
            return enlargement_batch(slices, recipe.data, rng).to(device)
        return undersampled_batch(slices, recipe.data, rng).to(device)

    return draw


def validation_score(recipe: Recipe, slices: Slices, device: torch.device) -> Score:
    """Return a function for the mean PSNR in dB over fixed validation examples; bright tissue counts as the peak.

    Args:
        recipe: the recipe.
        slices: magnitude images of the validation split.
        device: device of the examples.
    """
    draw = examples(recipe, slices, VALIDATION_STAGE, device)
    batches = [draw(step) for step in range(VALIDATION_BATCHES)]

    @torch.no_grad()
    def score(network: Network) -> float:
        network.eval()
        # Magnitudes, since that is what clients get; the peak is 1 in the units of a batch.
        errors = [(network(*b.inputs()).abs() - b.target.abs()).square().mean(dim=(-2, -1)) for b in batches]
        network.train()
        return float(-10 * torch.log10(torch.cat(errors)).mean())

    return score


def fidelity(recipe: Recipe) -> Objective:
    """Return the distance from the truth as a loss."""
    distance = DISTANCES[recipe.loss]

    def loss(network: Network, batch: Batch) -> Tensor:
        return distance(network(*batch.inputs()), batch.target)

    return loss


def supervise(
    recipe: Recipe, network: Network, train: Slices, validation: Slices, folder: Path, fabric: Fabric
) -> None:
    """Train a network on the truth alone, for the steps of the stage that `folder` is named after.

    Args:
        recipe: the recipe.
        network: the network, trained in place.
        train: slices of the train split.
        validation: slices of the validation split.
        folder: folder of the stage in the run's folder.
        fabric: device, precision and processes.
    """
    fit(
        network,
        fidelity(recipe),
        examples(recipe, train, 1, fabric.device),
        validation_score(recipe, validation, fabric.device),
        Stage(folder, folder.parent, recipe.steps[folder.name], recipe.optimiser["learning_rate"]),
        fabric,
    )
