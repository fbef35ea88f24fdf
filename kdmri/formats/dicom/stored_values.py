"""Float pixels of a series as 16-bit stored values, with one rescale for all slices."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float32, Int16
from numpy import ndarray
from pydicom import Dataset
from pydicom.valuerep import format_number_as_ds

from kdmri.errors import UnsupportedInput

LARGEST = 2**15 - 1
"""Stored values are signed 16 bit and symmetric about zero: the undershoot beside a sharp edge keeps its sign."""


def stored_values(
    stacks: Sequence[Float32[ndarray, "slice R C"]], padding: Sequence[Bool[ndarray, "slice R C"] | None] = ()
) -> tuple[list[Int16[ndarray, "slice R C"]], Dataset]:
    """Return the stored values of a series' stacks, and the rescale that turns them back.

    Args:
        stacks: pixels in modality units.
        padding: for each stack the pixels outside the image: they become 0 and do not count for the rescale.

    Returns:
        The stored values of each stack, of which the largest magnitude takes the whole range, and the rescale.

    Raises:
        UnsupportedInput: pixels are not finite.
    """
    masks = padding or [None] * len(stacks)
    stacks = [pixels if mask is None else np.where(mask, 0, pixels) for pixels, mask in zip(stacks, masks, strict=True)]
    peak = float(np.max([(pixels.max(), -pixels.min()) for pixels in stacks]))
    if not np.isfinite(peak):
        raise UnsupportedInput("expected finite pixels, got infinite ones or NaN")
    rescale = Dataset()
    rescale.RescaleSlope = format_number_as_ds(peak / LARGEST or 1.0)
    rescale.RescaleIntercept = "0"
    rescale.RescaleType = "US"
    # By the slope as it is written: it has fewer digits than a float.
    slope = np.float64(rescale.RescaleSlope)
    stored = [np.empty(pixels.shape, np.int16) for pixels in stacks]
    for outs, images in zip(stored, stacks, strict=True):
        for out, image in zip(outs, images, strict=True):
            out[:] = np.rint(image / slope)
    return stored, rescale
