"""One frame of an MR object: its attributes, plane, component and pixels, in classic and in Enhanced MR alike."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, Integer
from numpy import ndarray
from pydicom import Dataset, uid
from pydicom.encaps import generate_frames
from pydicom.multival import MultiValue
from pydicom.pixels.utils import pixel_array

from kdmri.errors import UnreadableDicom, UnsupportedInput
from kdmri.formats.dicom.codestream import check_size

ENHANCED = (uid.EnhancedMRImageStorage, uid.LegacyConvertedEnhancedMRImageStorage)

MACROS = {
    "PixelSpacing": "PixelMeasuresSequence",
    "SliceThickness": "PixelMeasuresSequence",
    "SpacingBetweenSlices": "PixelMeasuresSequence",
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
    "WindowCenter": "FrameVOILUTSequence",
    "WindowWidth": "FrameVOILUTSequence",
    "FrameType": "MRImageFrameTypeSequence",
    "ComplexImageComponent": "MRImageFrameTypeSequence",
}
"""The functional group in which Enhanced MR keeps what classic MR keeps at the top (PS3.3 C.7.6.16.2, C.8.13.5)."""

COMPONENTS = {
    "P": "phase",
    "PHASE": "phase",
    "PHASE MAP": "phase",
    "PHASE SUBTRACT": "phase",
    "VELOCITY MAP": "velocity map",
    "FIELD_MAP": "field map",
    "B0 MAP": "field map",
    "R": "real",
    "REAL": "real",
    "I": "imaginary",
    "IMAGINARY": "imaginary",
}
"""From value 3 of ImageType or FrameType on: PS3.3 C.8.3.1.1.1, and what Siemens and Philips write there."""
GE_COMPONENTS = {1: "phase", 2: "real", 3: "imaginary"}
"""(0043,xx2F) of GEMS_PARM_01: GE says it nowhere else."""
RESCALE_LIMIT = 1e28
"""Slope and intercept above this take 32-bit values out of float32's range."""


@dataclass(frozen=True)
class Plane:
    """Where a frame lies in the patient (LPS, mm); the fields are those of `geometry.Geometry`, for one slice."""

    position: Float64[ndarray, " 3"]
    orientation: Float64[ndarray, "2 3"]
    spacing: tuple[float, float]
    thickness: float


def is_enhanced(header: Dataset) -> bool:
    """Whether it is a multi-frame object with functional groups."""
    return header.get("SOPClassUID") in ENHANCED


def frame_count(header: Dataset) -> int:
    """Number of frames: 1 in classic MR."""
    return int(header.get("NumberOfFrames") or 1)


def frame_value(header: Dataset, keyword: str, frame: int) -> Any:
    """An attribute of one frame (from 0): its own, else shared by all frames, else of the whole object; or None."""
    for groups, item in (("PerFrameFunctionalGroupsSequence", frame), ("SharedFunctionalGroupsSequence", 0)):
        macro = header[groups][item].get(MACROS[keyword]) if header.get(groups) else None
        if macro and macro[0].get(keyword) is not None:
            return macro[0].get(keyword)
    return header.get(keyword)


def several(value: Any) -> list[Any]:
    """The values of an attribute of any multiplicity: pydicom gives one value alone, and None for none."""
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, MultiValue | list | tuple) else [value]


def image_type(header: Dataset, frame: int) -> list[str]:
    """FrameType or ImageType: ORIGINAL or DERIVED, PRIMARY or SECONDARY, and what the maker adds."""
    return several(frame_value(header, "FrameType", frame) or header.get("ImageType"))


def component(header: Dataset, frame: int) -> str:
    """Which part of the complex image a frame shows: 'magnitude', or what it is instead."""
    named = frame_value(header, "ComplexImageComponent", frame)
    if named in ("PHASE", "REAL", "IMAGINARY"):
        return str(named).lower()
    if "GEMS_PARM_01" in header.private_creators(0x0043):
        block = header.private_block(0x0043, "GEMS_PARM_01")
        codes = several(block[0x2F].value) if 0x2F in block else []
        if codes and codes[0] in GE_COMPONENTS:
            return GE_COMPONENTS[codes[0]]
    terms = image_type(header, frame)[2:]
    return next((COMPONENTS[term] for term in terms if term in COMPONENTS), "magnitude")


def plane(header: Dataset, frame: int) -> Plane | None:
    """Position, orientation and spacing of a frame; None where one is absent or zero.

    Raises UnreadableDicom where one is not of the right count of finite numbers.
    """
    position = _numbers(header, "ImagePositionPatient", frame, 3)
    cosines = _numbers(header, "ImageOrientationPatient", frame, 6)
    spacing = _numbers(header, "PixelSpacing", frame, 2)
    if position is None or cosines is None or spacing is None or spacing.min() <= 0:
        return None
    orientation = cosines.reshape(2, 3)
    lengths = np.linalg.norm(orientation, axis=1, keepdims=True)
    if lengths.min() == 0:
        return None
    thickness = frame_value(header, "SliceThickness", frame) or frame_value(header, "SpacingBetweenSlices", frame)
    return Plane(position, orientation / lengths, (float(spacing[0]), float(spacing[1])), float(thickness or 1))


def modality_pixels(dataset: Dataset, frames: Sequence[int]) -> Float32[ndarray, "frame row column"]:
    """Pixels of the given frames after their rescale; MONOCHROME1 is turned round, so that brighter is always more.

    Raises UnreadableDicom for pixel data that are absent, cut short or undecodable.
    """
    stored = _stored(dataset)
    pixels = np.empty((len(frames), *stored.shape[1:]), np.float32)
    for out, frame in zip(pixels, frames, strict=True):
        slope = frame_value(dataset, "RescaleSlope", frame)
        factor = 1.0 if slope is None else float(slope)
        intercept = float(frame_value(dataset, "RescaleIntercept", frame) or 0)
        if not (0 < abs(factor) < RESCALE_LIMIT and abs(intercept) < RESCALE_LIMIT):
            raise UnreadableDicom(f"expected a rescale that leaves finite pixels, got {factor:g} and {intercept:g}")
        out[:] = stored[frame] * factor + intercept
    return pixels


def _numbers(header: Dataset, keyword: str, frame: int, count: int) -> Float64[ndarray, " count"] | None:
    """The values of an attribute of `count` numbers, or None where it is absent or empty."""
    numbers = np.array([float(number) for number in several(frame_value(header, keyword, frame))])
    if not numbers.size:
        return None
    if numbers.shape != (count,) or not np.isfinite(numbers).all():
        raise UnreadableDicom(f"expected {count} finite numbers in {keyword}, got others")
    return numbers


def _stored(dataset: Dataset) -> Integer[ndarray, "frame row column"]:
    """Stored values by BitsStored, HighBit and PixelRepresentation; whatever lies in the other bits is dropped."""
    allocated, bits = int(dataset.BitsAllocated), int(dataset.BitsStored)
    high = int(dataset.get("HighBit", bits - 1))
    signed = bool(dataset.PixelRepresentation)
    if allocated not in (8, 16, 32) or not 0 < bits <= high + 1 <= allocated:
        raise UnsupportedInput(
            f"expected 8, 16 or 32 bits allocated with the stored bits inside, "
            f"got {allocated} allocated, {bits} stored, high bit {high}"
        )
    wide: np.dtype[Any] = np.dtype(np.int64 if allocated == 32 else np.int32)
    cells = _cells(dataset, allocated // 8).astype(wide)
    values: Integer[ndarray, "frame row column"] = (cells >> (high + 1 - bits)) & ((1 << bits) - 1)
    if signed:
        values -= (values >> (bits - 1)) << bits
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        values = (-1 if signed else (1 << bits) - 1) - values
    return values


def _cells(dataset: Dataset, width: int) -> Integer[ndarray, "frame row column"]:
    """The decoded pixel cells of all frames, `width` bytes each, unused bits and all."""
    shape = (frame_count(dataset), int(dataset.Rows), int(dataset.Columns))
    data = dataset.get("PixelData")
    if not data:
        raise UnreadableDicom("expected pixel data, got none")
    syntax, length = dataset.file_meta.TransferSyntaxUID, math.prod(shape) * width
    if not syntax.is_encapsulated and len(data) < length:
        raise UnreadableDicom(f"truncated pixel data: expected {length} bytes, got {len(data)}")
    try:
        if syntax.is_encapsulated and syntax != uid.RLELossless:
            dataset.pop("ExtendedOffsetTable", None)  # so that the decoder cuts the same frames as the check
            for stream in generate_frames(data, number_of_frames=shape[0]):
                check_size(stream, *shape[1:])
        # pylibjpeg's RLE decoder panics on damaged data, which is no Exception: pydicom's own is fast enough.
        plugin = "pydicom" if syntax == uid.RLELossless else ""
        cells: ndarray = pixel_array(dataset, raw=True, correct_unused_bits=False, decoding_plugin=plugin)
    except UnreadableDicom:
        raise
    except Exception as error:  # each decoder plugin has its own
        raise UnreadableDicom(f"expected pixel data in {syntax.name}, got bytes that do not decode") from error
    return cells.reshape(shape)
