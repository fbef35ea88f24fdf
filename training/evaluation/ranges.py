"""How bright and how full of contrast training images are: what quality.ranges calls usual."""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float
from kdmri_training.data.simulation import Slices, Truncation
from kdmri_training.learning.recipe import Recipe
from kdmri_training.learning.teacher import examples
from torch import Tensor

from kdmri.physics.scaling import intensity_scale
from kdmri.quality.no_reference import statistics

EXAMPLES = 1600
"""Of simulated scans, as many as this are drawn."""


def intensity_and_contrast(recipe: Recipe, slices: Slices) -> dict[str, tuple[float, float]]:
    """1st to 99th percentile of both figures of Quality over training images; `slices` of the train split.

    For super-resolution over whole slices: networks train on patches, but a service is sent images.
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
        yield from draw(step).target.abs().split(1)


def _span(values: np.ndarray) -> tuple[float, float]:
    """Three significant digits."""
    low, high = np.percentile(values, (1, 99))
    return float(f"{low:.3g}"), float(f"{high:.3g}")
