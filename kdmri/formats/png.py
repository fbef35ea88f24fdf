"""PNG preview: 8-bit greyscale, windowed as a viewer would."""

import io
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, UInt8
from numpy import ndarray
from PIL import Image
from pydicom import Dataset

from kdmri.data.images import Images
from kdmri.formats.dicom.windows import limits

WHITE = 255


def to_bytes(images: Images, headers: Sequence[Dataset] = ()) -> bytes:
    """Write one slice as it is, or several as a montage in reading order, about as wide as high.

    All slices have one window: that of the DICOM `headers` they were made from, or robust percentiles of the pixels.
    """
    file = io.BytesIO()
    Image.fromarray(_montage(_grey_levels(images.pixels, headers))).save(file, "PNG")
    return file.getvalue()


def _grey_levels(
    pixels: Float32[ndarray, "slice row column"], headers: Sequence[Dataset]
) -> UInt8[ndarray, "slice row column"]:
    """Return grey levels between the limits of the window. An image without contrast is black, and so is NaN."""
    # NaN has no grey level, and converting it to an integer is undefined.
    pixels = np.nan_to_num(pixels)
    low, high = limits([pixels], headers)
    # A flat or nearly empty image has no percentiles apart: then its extremes are the window.
    low, high = (low, high) if high > low else (pixels.min(), pixels.max())
    grey = (pixels - low) / ((high - low) or 1) * WHITE
    return np.rint(np.clip(grey, 0, WHITE)).astype(np.uint8)


def _montage(slices: UInt8[ndarray, "slice row column"]) -> UInt8[ndarray, "row column"]:
    # The number across that makes the montage about square, whatever the proportions of a slice.
    count, rows, columns = slices.shape
    across = min(count, math.ceil(math.sqrt(count * rows / columns)))
    down = math.ceil(count / across)
    # Black where the last row of the montage is not full.
    tiles = np.zeros((down * across, rows, columns), dtype=np.uint8)
    tiles[:count] = slices
    return tiles.reshape(down, across, rows, columns).transpose(0, 2, 1, 3).reshape(down * rows, across * columns)
