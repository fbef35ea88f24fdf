"""Grey levels of a DICOM series: float pixels as 16-bit stored values, with one rescale and one window for all."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32, Int16
from numpy import ndarray
from pydicom import Dataset
from pydicom.valuerep import format_number_as_ds

from kdmri.errors import UnsupportedInput
from kdmri.formats.dicom.attributes import frame_count, frame_value, several

LARGEST = 2**15 - 1
"""Stored values are signed 16 bit and symmetric about zero: the undershoot beside a sharp edge keeps its sign."""
PERCENTILES = (1.0, 99.5)
"""Of the pixels, shown black and white where the source has no window."""
ENOUGH = 2**20
"""Pixels that settle a percentile."""


def decimals(values: Iterable[float]) -> list[str]:
    """Numbers as DS strings of at most 16 characters."""
    return [format_number_as_ds(float(value)) for value in values]


def stored_values(
    stacks: Sequence[Float32[ndarray, "slice R C"]],
) -> tuple[list[Int16[ndarray, "slice R C"]], Dataset]:
    """Stored values of a series' stacks, and the rescale that turns them back: the largest magnitude takes the range.

    Raises UnsupportedInput for pixels that are not finite.
    """
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


def window(stacks: Sequence[Float32[ndarray, "slice R C"]], headers: Sequence[Dataset] = ()) -> Dataset:
    """One window for all slices, between `limits`."""
    low, high = limits(stacks, headers)
    width = float(high - low) or 1.0
    item = Dataset()
    item.WindowCenter, item.WindowWidth = decimals((low + width / 2, width))
    if width < 1:
        item.VOILUTFunction = "LINEAR_EXACT"  # the default LINEAR is for widths of 1 or more (PS3.3 C.11.2.1.2.1)
    return item


def limits(stacks: Sequence[Float32[ndarray, "slice R C"]], headers: Sequence[Dataset] = ()) -> tuple[float, float]:
    """What is shown black and white: the median window of `headers`, or else robust percentiles of the pixels."""
    if edges := _windows(headers):
        low, high = np.median(edges, axis=0)
    else:
        step = -(-sum(pixels.size for pixels in stacks) // ENOUGH)
        low, high = np.percentile(np.concatenate([pixels.ravel()[::step] for pixels in stacks]), PERCENTILES)
    return float(low), float(high)


def _windows(headers: Sequence[Dataset]) -> list[tuple[float, float]]:
    """Lower and upper edge of the first window of every frame; none at all where one lacks it or shows it inverted."""
    edges = []
    for header in headers:
        for frame in range(frame_count(header)):
            center, width = (_first(frame_value(header, key, frame)) for key in ("WindowCenter", "WindowWidth"))
            if header.PhotometricInterpretation != "MONOCHROME2" or not (np.isfinite(center) and 0 < width < np.inf):
                return []
            edges.append((center - width / 2, center + width / 2))
    return edges


def _first(value: Any) -> float:
    """The number, or the first of several; NaN where there is none."""
    try:
        return float(several(value)[0])
    except (TypeError, ValueError, IndexError):
        return float("nan")
