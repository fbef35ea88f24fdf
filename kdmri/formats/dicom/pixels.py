"""Decoding of an MR object's pixel data: stored values by their bits, then modality units by each frame's rescale."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Integer
from numpy import ndarray
from pydicom import Dataset, uid
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels.utils import pixel_array

from kdmri.errors import UnreadableDicom, UnsupportedInput
from kdmri.formats.dicom.attributes import frame_count, frame_value
from kdmri.formats.dicom.codestream import check_size, without_boxes
from kdmri.formats.dicom.numbers import several, to_float

RESCALE_LIMIT = 1e28
"""Slope and intercept above this take 32-bit values out of float32's range."""


@dataclass(frozen=True)
class DecodedPixels:
    """Frames of one object."""

    values: Float32[ndarray, "frame row column"]
    """Modality units, brighter is more; 0 where there is padding."""
    padding: Bool[ndarray, "frame row column"] | None
    """Pixels outside the image (PixelPaddingValue); None where there are none."""


def decode_pixels(dataset: Dataset, frames: Sequence[int]) -> DecodedPixels:
    """Decode frames and apply their rescale; MONOCHROME1 is inverted, so that brighter is always more.

    Padding is no signal. It becomes 0 here, before anything is computed, because interpolation would otherwise carry a
    value such as -32768 into the image.

    Args:
        dataset: a complete object.
        frames: numbers of the frames, from 0.

    Raises:
        UnreadableDicom: pixel data are absent, cut short or do not decode.
        UnsupportedInput: the layout of the bits is none that MR has.
    """
    stored = _stored_values(dataset)
    mask = _padding(dataset, stored)
    turned = inversion(dataset)
    pixels = np.empty((len(frames), *stored.shape[1:]), np.float32)
    for out, frame in zip(pixels, frames, strict=True):
        slope, intercept = rescale_of(dataset, frame)
        values = stored[frame] if turned is None else turned - stored[frame]
        out[:] = values * slope + intercept
    if mask is None or not (mask := mask[list(frames)]).any():
        return DecodedPixels(pixels, None)
    pixels[mask] = 0
    return DecodedPixels(pixels, mask)


def rescale_of(header: Dataset, frame: int) -> tuple[float, float]:
    """Return slope and intercept of a frame. A slope of 0 counts as 1: no image is meant to vanish.

    dcm2niix copies RescaleSlope to NIfTI's scl_slope, in which 0 means that pixels are not scaled.

    Raises:
        UnreadableDicom: one of them is no number, or too large for float32 pixels.
    """
    factors = []
    for keyword, default in (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0)):
        values = several(frame_value(header, keyword, frame))
        try:
            factors.append(to_float(values[0]) if values else default)
        except (TypeError, ValueError) as error:
            raise UnreadableDicom(f"expected a number in {keyword}, got {str(values[0])[:16]!r}") from error
    slope, intercept = factors[0] or 1.0, factors[1]
    if not (0 < abs(slope) < RESCALE_LIMIT and abs(intercept) < RESCALE_LIMIT):
        raise UnreadableDicom(f"expected a rescale that leaves finite pixels, got {slope:g} and {intercept:g}")
    return slope, intercept


def inversion(header: Dataset) -> int | None:
    """Return C where MONOCHROME1 pixels s are read as C - s; None where they are read as they are."""
    if header.get("PhotometricInterpretation") != "MONOCHROME1":
        return None
    return -1 if header.PixelRepresentation else (1 << int(header.BitsStored)) - 1


def _stored_values(dataset: Dataset) -> Integer[ndarray, "frame row column"]:
    """Return stored values by BitsStored, HighBit and PixelRepresentation, without what lies in the other bits."""
    allocated, bits = int(dataset.BitsAllocated), int(dataset.BitsStored)
    high = bits - 1 if dataset.get("HighBit") is None else int(dataset.HighBit)
    if allocated not in (8, 16, 32) or not 0 < bits <= high + 1 <= allocated:
        raise UnsupportedInput(
            f"expected 8, 16 or 32 bits allocated with the stored bits inside, "
            f"got {allocated} allocated, {bits} stored, high bit {high}"
        )
    # Wider than the stored values, which may be unsigned: the sign and the inversion need one bit more.
    wide: np.dtype[Any] = np.dtype(np.int64 if allocated == 32 else np.int32)
    cells = _cells(dataset, allocated // 8).astype(wide)
    values: Integer[ndarray, "frame row column"] = (cells >> (high + 1 - bits)) & ((1 << bits) - 1)
    # Sign extension: the highest stored bit counts -2^(bits - 1).
    if dataset.PixelRepresentation:
        values -= (values >> (bits - 1)) << bits
    return values


def _padding(
    dataset: Dataset, stored: Integer[ndarray, "frame row column"]
) -> Bool[ndarray, "frame row column"] | None:
    """Return where stored values are padding: PixelPaddingValue, or the range from it to PixelPaddingRangeLimit."""
    ends = []
    for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit"):
        values = several(dataset.get(keyword))
        if values and isinstance(values[0], int):
            ends.append(_wrap(int(values[0]), int(dataset.BitsStored), bool(dataset.PixelRepresentation)))
    if not ends or dataset.get("PixelPaddingValue") is None:
        return None
    mask: Bool[ndarray, "frame row column"] = (stored >= min(ends)) & (stored <= max(ends))
    return mask if mask.any() else None


def _wrap(value: int, bits: int, signed: bool) -> int:
    """Return a padding value as the stored bits hold it: writers mix up US and SS, and write 16 bits for 12.

    Args:
        value: value as the header states it.
        bits: BitsStored.
        signed: PixelRepresentation, True for two's complement.
    """
    value &= (1 << bits) - 1
    return value - (1 << bits) if signed and value >> (bits - 1) else value


def _cells(dataset: Dataset, width: int) -> Integer[ndarray, "frame row column"]:
    """Return the decoded pixel cells of all frames, `width` bytes each, with their unused bits."""
    shape = (frame_count(dataset), int(dataset.Rows), int(dataset.Columns))
    data = dataset.get("PixelData")
    if not data:
        raise UnreadableDicom("expected pixel data, got none")
    syntax, length = dataset.file_meta.TransferSyntaxUID, math.prod(shape) * width
    if not syntax.is_encapsulated and len(data) < length:
        raise UnreadableDicom(f"truncated pixel data: expected {length} bytes, got {len(data)}")
    try:
        if syntax.is_encapsulated and syntax != uid.RLELossless:
            _check_frames(dataset, shape)
        # pylibjpeg's RLE decoder panics on damaged data, which is no Exception: pydicom's own is fast enough.
        plugin = "pydicom" if syntax == uid.RLELossless else ""
        cells: ndarray = pixel_array(dataset, raw=True, correct_unused_bits=False, decoding_plugin=plugin)
    except UnreadableDicom:
        raise
    except Exception as error:  # Each decoder plugin has its own exceptions.
        raise UnreadableDicom(f"expected pixel data in {syntax.name}, got bytes that do not decode") from error
    # Some writers leave more behind the last frame than the one byte of padding that the standard allows.
    return cells.reshape(-1)[: math.prod(shape)].reshape(shape)


def _check_frames(dataset: Dataset, shape: tuple[int, int, int]) -> None:
    """Check the size that every frame claims, and take codestreams out of their JP2 boxes, which DICOM forbids."""
    # Without the table the decoder cuts the same frames as this check.
    dataset.pop("ExtendedOffsetTable", None)
    frames = list(generate_frames(dataset.PixelData, number_of_frames=shape[0]))
    bare = [without_boxes(frame) for frame in frames]
    for frame in bare:
        check_size(frame, *shape[1:])
    if bare != frames:
        dataset.PixelData = encapsulate(bare)
