"""Simulated measurements of whole test volumes, as an experiment's networks see them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from kdmri_training.data.enlargement import Truncation
from kdmri_training.data.simulation import Undersampling
from kdmri_training.evaluation.evaluate import simulate_kspace
from kdmri_training.learning.recipe import Recipe
from numpy import ndarray
from torch import Tensor

from kdmri.errors import InvalidRequest
from kdmri.physics.acquisition import Acquisition
from kdmri.physics.fourier import fft2c
from kdmri.physics.resampling import downsample, upsample
from kdmri.physics.sampling import variable_density_mask
from kdmri.physics.scaling import intensity_scale

BATCH = 4
"""Slices in one call of a network, which bounds memory."""
Volume = Float[ndarray, "slice row column"]
Restorer = Callable[..., Tensor]
"""A network, or a served model in its place: scaled inputs, as VolumeMeasurement has them, to a scaled image."""


@dataclass(frozen=True)
class VolumeMeasurement:
    """Simulated measurement of a volume, slice by slice, scaled so that bright tissue is about 1."""

    truth: Volume
    inputs: tuple[Tensor, ...]
    scale: Float[Tensor, "slice 1 1"]

    @property
    def baseline(self) -> Volume:
        """Image of the measurement alone: zero-filled, which for super-resolution is sinc interpolation."""
        return self._image(self.inputs[0])

    @torch.no_grad()
    def restore(self, network: Restorer) -> Volume:
        """Run a network on all slices; returns its image in the volume's units."""
        starts = range(0, len(self.truth), BATCH)
        parts = [network(*(tensor[start : start + BATCH] for tensor in self.inputs)) for start in starts]
        return self._image(torch.cat(parts))

    def _image(self, scaled: Tensor) -> Volume:
        return ((scaled.abs() if scaled.is_complex() else scaled) * self.scale).numpy()


def conditions(recipe: Recipe) -> tuple[int, ...]:
    """Return the accelerations or scales that an experiment's recipe trains for.

    Raises:
        InvalidRequest: the recipe is of models to ship, which are trained for a range.
    """
    if isinstance(recipe.data, Undersampling):
        return recipe.data.accelerations
    if isinstance(recipe.data, Truncation):
        return recipe.data.scales
    raise InvalidRequest(f"expected the recipe of an experiment, got {recipe.file}")


def measure_volume(recipe: Recipe, truth: Volume, condition: int) -> VolumeMeasurement:
    """Undersample or truncate the slices of a volume in the same way as the recipe's training data.

    Args:
        recipe: the experiment's recipe.
        truth: the volume.
        condition: acceleration or scale.
    """
    if isinstance(recipe.data, Undersampling):
        return _undersample(truth, condition, recipe.data.centre_lines)
    rows, columns = (size // condition * condition for size in truth.shape[1:])
    fine = truth[:, :rows, :columns]
    interpolated = upsample(downsample(torch.from_numpy(fine), condition), condition)
    scale = intensity_scale(interpolated)
    return VolumeMeasurement(fine, (interpolated / scale,), scale)


def _undersample(truth: Volume, acceleration: int, centre_lines: int) -> VolumeMeasurement:
    columns = truth.shape[2]
    lines = [
        # By slice and acceleration alone, so that every method and every run sees the same lines.
        variable_density_mask(columns, acceleration, centre_lines, np.random.default_rng([acceleration, number]))
        for number in range(len(truth))
    ]
    mask = torch.from_numpy(np.stack(lines)).float()[:, None, None, :].expand(-1, 1, *truth.shape[1:])
    return _measurement(truth, mask * fft2c(torch.from_numpy(truth).to(torch.complex64))[:, None], mask)


def with_phase(truth: Volume, acceleration: int) -> VolumeMeasurement:
    """Undersample the slices of a volume with a smooth phase, in the same way as for the served models' scores."""
    kspace = simulate_kspace(truth, acceleration, seed=0)
    mask = torch.tensor(kspace.mask, dtype=torch.float32)[:, None].expand(len(truth), -1, -1, -1)
    return _measurement(truth, torch.from_numpy(kspace.samples), mask)


def _measurement(truth: Volume, kspace: Tensor, mask: Tensor) -> VolumeMeasurement:
    acquisition = Acquisition(kspace, mask, torch.ones_like(kspace))
    start = acquisition.zero_filled / acquisition.scale
    return VolumeMeasurement(truth, (start, mask, acquisition.sensitivities), acquisition.scale)
