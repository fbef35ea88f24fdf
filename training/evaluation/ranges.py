"""Brightness and contrast of training images, the ranges that quality.no_reference calls usual."""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float
from kdmri_training.data.enlargement import Truncation
from kdmri_training.data.volumes import Slices
from kdmri_training.learning.recipe import Recipe
from kdmri_training.learning.teacher import examples
from torch import Tensor

from kdmri.physics.scaling import intensity_scale
from kdmri.quality.no_reference import statistics

EXAMPLES = 1600
"""Number of simulated scans that are drawn."""


def intensity_and_contrast(recipe: Recipe, slices: Slices) -> dict[str, tuple[float, float]]:
    """Compute the 1st to 99th percentile of intensity and contrast over training images.

    Networks for super-resolution train on patches, but a service receives whole images: these are measured.

    Args:
        recipe: the recipe.
        slices: slices of the train split.
    """
    found = [statistics(image / intensity_scale(image)) for image in _images(recipe, slices)]
    intensities, contrasts = np.array([figures for figures in found if figures[0] > 0]).T
    return {"intensity": _span(intensities), "contrast": _span(contrasts)}


def _images(recipe: Recipe, slices: Slices) -> Iterator[Float[Tensor, "1 row column"]]:
    if isinstance(recipe.data, Truncation):
        for image in slices.images:
            yield torch.from_numpy(image.astype(np.float32))[None]
        return
    draw = examples(recipe, slices, 1, torch.device("cpu"))
    for step in range(EXAMPLES // recipe.data.batch):
        magnitudes = draw(step).target.abs()
        yield from (magnitudes[number : number + 1] for number in range(len(magnitudes)))


def _span(values: np.ndarray) -> tuple[float, float]:
    """Return the 1st and 99th percentile to three significant digits."""
    # Not the extremes, which one odd image decides.
    low, high = np.percentile(values, (1, 99))
    return float(f"{low:.3g}"), float(f"{high:.3g}")
