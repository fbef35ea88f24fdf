"""PNG preview: 8-bit greyscale, windowed as a viewer shows a series that brings no window of its own."""

import io
import math

import numpy as np
from jaxtyping import Float32, UInt8
from numpy import ndarray
from PIL import Image

from kdmri.formats.grey import ENOUGH, PERCENTILES
from kdmri.records import Images

WHITE = 255


def to_bytes(images: Images) -> bytes:
    """One slice as it is, several as a montage in reading order, about as wide as high. One window for all."""
    file = io.BytesIO()
    Image.fromarray(_montage(_windowed(images.pixels))).save(file, "PNG")
    return file.getvalue()


def _windowed(pixels: Float32[ndarray, "slice row column"]) -> UInt8[ndarray, "slice row column"]:
    """Black and white at robust percentiles of all slices. Without contrast, all black; NaN is black."""
    pixels = np.nan_to_num(pixels)
    low, high = np.percentile(pixels.ravel()[:: -(-pixels.size // ENOUGH)], PERCENTILES)
    # A flat or nearly empty image has no percentiles apart: then its extremes are the window.
    low, high = (low, high) if high > low else (pixels.min(), pixels.max())
    grey = (pixels - low) / ((high - low) or 1) * WHITE
    return np.rint(np.clip(grey, 0, WHITE)).astype(np.uint8)


def _montage(slices: UInt8[ndarray, "slice row column"]) -> UInt8[ndarray, "row column"]:
    count, rows, columns = slices.shape
    across = math.ceil(math.sqrt(count * rows / columns))
    down = math.ceil(count / across)
    tiles = np.zeros((down * across, rows, columns), dtype=np.uint8)
    tiles[:count] = slices
    return tiles.reshape(down, across, rows, columns).transpose(0, 2, 1, 3).reshape(down * rows, across * columns)
