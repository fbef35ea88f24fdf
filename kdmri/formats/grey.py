"""Grey levels of a DICOM series: float pixels as 16-bit stored values, with one rescale and one window for all."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32, Int16
from numpy import ndarray
from pydicom import Dataset
from pydicom.valuerep import format_number_as_ds

from kdmri.errors import UnsupportedInput
from kdmri.formats.frames import frame_count, frame_value, several

LARGEST = 2**15 - 1
"""Stored values are signed 16 bit and symmetric about zero: the undershoot beside a sharp edge keeps its sign."""
PERCENTILES = (1.0, 99.5)
"""Of the pixels, shown black and white where the source has no window."""
ENOUGH = 2**20
"""Pixels that settle a percentile."""


def decimals(values: Iterable[float]) -> list[str]:
    """Numbers as DS strings of at most 16 characters."""
    return [format_number_as_ds(float(value)) for value in values]


def stored_values(pixels: Float32[ndarray, "slice R C"]) -> tuple[Int16[ndarray, "slice R C"], Dataset]:
    """Stored values, and the rescale that turns them back: the largest magnitude takes the whole range.

    Raises UnsupportedInput for pixels that are not finite.
    """
    peak = max(float(pixels.max()), -float(pixels.min()))
    if not np.isfinite(peak):
        raise UnsupportedInput("expected finite pixels, got infinite ones or NaN")
    rescale = Dataset()
    rescale.RescaleSlope = format_number_as_ds(peak / LARGEST or 1.0)
    rescale.RescaleIntercept = "0"
    rescale.RescaleType = "US"
    stored = np.empty(pixels.shape, np.int16)
    for out, image in zip(stored, pixels, strict=True):
        # By the slope as it is written: it has fewer digits than a float.
        out[:] = np.rint(image / np.float64(rescale.RescaleSlope))
    return stored, rescale


def window(pixels: Float32[ndarray, "slice R C"], headers: Sequence[Dataset] = ()) -> Dataset:
    """One window for all slices, between `limits`."""
    low, high = limits(pixels, headers)
    width = float(high - low) or 1.0
    item = Dataset()
    item.WindowCenter, item.WindowWidth = decimals((low + width / 2, width))
    if width < 1:
        item.VOILUTFunction = "LINEAR_EXACT"  # the default LINEAR is for widths of 1 or more (PS3.3 C.11.2.1.2.1)
    return item


def limits(pixels: Float32[ndarray, "slice R C"], headers: Sequence[Dataset] = ()) -> tuple[float, float]:
    """What is shown black and white: the median window of `headers`, or else robust percentiles of the pixels."""
    edges = _windows(headers)
    sample = pixels.ravel()[:: -(-pixels.size // ENOUGH)]
    low, high = np.median(edges, axis=0) if edges else np.percentile(sample, PERCENTILES)
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
