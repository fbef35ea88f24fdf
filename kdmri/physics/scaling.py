"""Scales of an input: its units, removed exactly before anything is squared, and its brightness for networks."""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

PERCENTILE = 0.99
"""Rank of the brightness: above the air and most tissue, below vessels and spikes."""
LARGEST_EXPONENT = 120
"""Largest power of two that is removed, either way, so that the factor and its inverse are normal float32 numbers."""


def intensity_scale(image: Shaped[Tensor, "batch row column"]) -> Float[Tensor, "batch 1 1"]:
    """Compute the robust maximum of each (complex or real) image; 1 if an image is zero throughout.

    Networks see images divided by it, whose bright tissue is about 1 whatever the units of the input.
    """
    magnitude = image.abs().flatten(1)
    rank = min(int(PERCENTILE * magnitude.shape[1]) + 1, magnitude.shape[1])
    # The least of the largest values is that percentile, in half of kthvalue's time.
    scale = magnitude.topk(magnitude.shape[1] - rank + 1, dim=1, sorted=False).values.amin(dim=1)
    brightest = magnitude.amax(dim=1)
    # A lone bright point in the air has a percentile of zero: its maximum is used instead.
    scale = torch.where(scale > 1e-3 * brightest, scale, brightest)
    return torch.where(scale > 0, scale, torch.ones_like(scale))[:, None, None]


def power_of_two(array: Shaped[Tensor, "slice ..."]) -> Float[Tensor, " slice"]:
    """Compute the power of two next below the largest value of each element of a batch; 0 if all values are zero.

    Division by a power of two is exact, and afterwards squares and sums of squares stay far from float32's limits:
    without it, inputs beyond 1e19 overflow and inputs below 1e-19 vanish. The result is not finite if a value is not.

    Args:
        array: real or complex values; of complex ones, the larger part counts.
    """
    # The larger part of a complex value is within a factor of sqrt(2) of its magnitude, and takes no root.
    parts = torch.view_as_real(array) if array.is_complex() else array
    peak = torch.linalg.vector_norm(parts, ord=torch.inf, dim=tuple(range(1, parts.ndim)))
    _, exponent = torch.frexp(peak)
    power = torch.exp2((exponent - 1).clamp(-LARGEST_EXPONENT, LARGEST_EXPONENT).to(peak.dtype))
    # NaN and infinity are passed on: the caller refuses the input, and says so.
    return torch.where(peak > 0, torch.where(peak.isfinite(), power, peak), peak)


def divide(array: Shaped[Tensor, "slice ..."], powers: Float[Tensor, " slice"]) -> Shaped[Tensor, "slice ..."]:
    """Divide each element of a batch by its power of two; elements with power 0 are zero and stay so.

    Args:
        array: real or complex values.
        powers: result of `power_of_two`.
    """
    factor = torch.where(powers > 0, 1 / powers, 1)
    # Pairs of real numbers: a complex product would take twice the time.
    parts = torch.view_as_real(array) if array.is_complex() else array
    divided = parts * factor.reshape(-1, *(1,) * (parts.ndim - 1))
    return torch.view_as_complex(divided) if array.is_complex() else divided
