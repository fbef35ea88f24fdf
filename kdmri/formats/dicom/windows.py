"""Display windows: that of the source, or one from robust percentiles of the pixels."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32
from numpy import ndarray
from pydicom import Dataset

from kdmri.formats.dicom.attributes import frame_count, frame_value
from kdmri.formats.dicom.numbers import decimals, several, to_float
from kdmri.formats.dicom.pixels import inversion, rescale_of

PERCENTILES = (1.0, 99.5)
"""Percentiles of the pixels that are shown black and white where the source has no window."""
ENOUGH = 2**20
"""Number of pixels from which a percentile is estimated."""
FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")
"""Values of VOILUTFunction (PS3.3 C.11.2.1.3)."""


def window(stacks: Sequence[Float32[ndarray, "slice R C"]], headers: Sequence[Dataset] = ()) -> Dataset:
    """Return one window for all slices, between `limits`, with the VOI LUT function of the source."""
    low, high = limits(stacks, headers)
    width = float(high - low) or 1.0
    item = Dataset()
    item.WindowCenter, item.WindowWidth = decimals((low + width / 2, width))
    functions = {str(frame_value(header, "VOILUTFunction", 0)) for header in headers} if _edges(headers) else set()
    if len(functions) == 1 and (function := functions.pop()) in FUNCTIONS:
        item.VOILUTFunction = function
    if width < 1 and item.get("VOILUTFunction", "LINEAR") == "LINEAR":
        item.VOILUTFunction = "LINEAR_EXACT"  # The default LINEAR is for widths of 1 or more (PS3.3 C.11.2.1.2.1).
    return item


def limits(stacks: Sequence[Float32[ndarray, "slice R C"]], headers: Sequence[Dataset] = ()) -> tuple[float, float]:
    """Return the values shown black and white: the median of the headers' windows, or percentiles of the pixels."""
    if edges := _edges(headers):
        low, high = np.median(edges, axis=0)
    else:
        step = -(-sum(pixels.size for pixels in stacks) // ENOUGH)
        low, high = np.percentile(np.concatenate([pixels.ravel()[::step] for pixels in stacks]), PERCENTILES)
    return float(low), float(high)


def _edges(headers: Sequence[Dataset]) -> list[tuple[float, float]]:
    """Return lower and upper edge of the first window of every frame; an empty list where one frame has none."""
    edges = []
    for header in headers:
        turned = inversion(header)
        for frame in range(frame_count(header)):
            center, width = (_first(frame_value(header, key, frame)) for key in ("WindowCenter", "WindowWidth"))
            if not (np.isfinite(center) and 0 < width < np.inf):
                return []
            if turned is not None:
                # MONOCHROME1 pixels were turned round by s -> C - s, so v = RS s + RI became RS C + 2 RI - v.
                slope, intercept = rescale_of(header, frame)
                center = slope * turned + 2 * intercept - center
            edges.append((center - width / 2, center + width / 2))
    return edges


def _first(value: Any) -> float:
    """Return the number, or the first of several; NaN where there is none."""
    try:
        return to_float(several(value)[0])
    except (TypeError, ValueError, IndexError):
        return float("nan")
