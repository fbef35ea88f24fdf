"""Intensity scale: networks see images whose bright tissue is about 1, whatever the units of the input."""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

PERCENTILE = 0.99
"""Above the air and most tissue, below vessels and spikes."""


def intensity_scale(image: Shaped[Tensor, "batch row column"]) -> Float[Tensor, "batch 1 1"]:
    """The robust maximum of each (complex or real) image; 1 where an image is zero throughout."""
    magnitude = image.abs().flatten(1)
    rank = min(int(PERCENTILE * magnitude.shape[1]) + 1, magnitude.shape[1])
    # The least of the largest: in half of kthvalue's time.
    scale = magnitude.topk(magnitude.shape[1] - rank + 1, dim=1, sorted=False).values.amin(dim=1)
    brightest = magnitude.amax(dim=1)
    # A lone bright point in the air has a percentile of zero: its maximum serves.
    scale = torch.where(scale > 1e-3 * brightest, scale, brightest)
    return torch.where(scale > 0, scale, torch.ones_like(scale))[:, None, None]
