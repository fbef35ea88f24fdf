"""Attributes of one frame of an MR object, its plane and its component, in classic and in Enhanced MR alike."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64
from numpy import ndarray
from pydicom import Dataset, uid

from kdmri.errors import UnreadableDicom
from kdmri.formats.dicom.numbers import several, to_float

ENHANCED = (uid.EnhancedMRImageStorage, uid.LegacyConvertedEnhancedMRImageStorage)

MACROS = {
    "PixelSpacing": "PixelMeasuresSequence",
    "SliceThickness": "PixelMeasuresSequence",
    "SpacingBetweenSlices": "PixelMeasuresSequence",
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
    "RescaleType": "PixelValueTransformationSequence",
    "VOILUTFunction": "FrameVOILUTSequence",
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
"""Terms of ImageType or FrameType, value 3 and later: PS3.3 C.8.3.1.1.1, and those of Siemens and Philips."""
MAPS = {"ADC", "EADC", "FA", "T1 MAP", "T2 MAP", "T2 STAR MAP", "T2* MAP", "R2 MAP", "R2 STAR MAP", "R2* MAP"}
"""Terms by which makers mark maps of a quantity, with underscores as spaces."""
GE_COMPONENTS = {1: "phase", 2: "real", 3: "imaginary"}
"""(0043,xx2F) of GEMS_PARM_01: GE says it nowhere else."""


@dataclass(frozen=True)
class Plane:
    """Position of one frame in the patient (LPS, mm), with the fields of `geometry.Geometry`."""

    position: Float64[ndarray, " 3"]
    orientation: Float64[ndarray, "2 3"]
    spacing: tuple[float, float]
    thickness: float


def is_enhanced(header: Dataset) -> bool:
    """True for a multi-frame object with functional groups."""
    return header.get("SOPClassUID") in ENHANCED


def frame_count(header: Dataset) -> int:
    """Return the number of frames: 1 in classic MR."""
    return int(header.get("NumberOfFrames") or 1)


def frame_value(header: Dataset, keyword: str, frame: int) -> Any:
    """Return an attribute of one frame (from 0): its own, else that of all frames, else the object's; or None."""
    # The order of precedence of PS3.3 C.7.6.16: an attribute is in one of the groups, and at the top in classic MR.
    for groups, item in (("PerFrameFunctionalGroupsSequence", frame), ("SharedFunctionalGroupsSequence", 0)):
        macro = header[groups][item].get(MACROS[keyword]) if header.get(groups) else None
        if macro and macro[0].get(keyword) is not None:
            return macro[0].get(keyword)
    return header.get(keyword)


def image_type(header: Dataset, frame: int) -> list[str]:
    """Return FrameType or ImageType: ORIGINAL or DERIVED, PRIMARY or SECONDARY, and what the maker adds."""
    return several(frame_value(header, "FrameType", frame) or header.get("ImageType"))


def component(header: Dataset, frame: int) -> str:
    """Return the part of the complex image that a frame shows: 'magnitude', 'phase' and so on."""
    # Enhanced MR has an attribute for it; classic MR has it among the makers' terms, or at GE in a private element
    # only.
    named = frame_value(header, "ComplexImageComponent", frame)
    if named in ("PHASE", "REAL", "IMAGINARY"):
        return str(named).lower()
    codes = several(private_value(header, 0x0043, "GEMS_PARM_01", 0x2F))
    if codes and isinstance(codes[0], int | float) and codes[0] in GE_COMPONENTS:
        return GE_COMPONENTS[int(codes[0])]
    terms = image_type(header, frame)[2:]
    return next((COMPONENTS[term] for term in terms if term in COMPONENTS), "magnitude")


def quantity(header: Dataset) -> str | None:
    """Return the name of the quantity that a map's first frame shows, by its type, or None for grey levels."""
    terms = (str(term).upper().replace("_", " ") for term in image_type(header, 0)[2:])
    return next((term for term in terms if term in MAPS), None)


def private_value(holder: Dataset, group: int, creator: str, offset: int) -> Any:
    """Return the value of a private element, or None.

    Args:
        holder: an object or an item of a sequence.
        group: the element's group.
        creator: the maker's name for its block of elements.
        offset: last two digits of the element's number.
    """
    if creator not in holder.private_creators(group):
        return None
    block = holder.private_block(group, creator)
    return block[offset].value if offset in block else None


def plane(header: Dataset, frame: int) -> Plane | None:
    """Return position, orientation and spacing of a frame; None where one is absent or zero.

    Raises:
        UnreadableDicom: one of them is not the right count of finite numbers.
    """
    position = numbers(header, "ImagePositionPatient", frame, 3)
    cosines = numbers(header, "ImageOrientationPatient", frame, 6)
    spacing = numbers(header, "PixelSpacing", frame, 2)
    if position is None or cosines is None or spacing is None or spacing.min() <= 0:
        return None
    orientation = cosines.reshape(2, 3)
    # Cosines are rounded to DS strings of 16 characters, or less by some writers: their length is only about 1.
    lengths = np.linalg.norm(orientation, axis=1, keepdims=True)
    if lengths.min() == 0:
        return None
    # SliceThickness first, because the spacing includes the gap to the next slice; 1 mm if the file states neither.
    thickness = (
        positive_number(frame_value(header, "SliceThickness", frame))
        or positive_number(frame_value(header, "SpacingBetweenSlices", frame))
        or 1.0
    )
    return Plane(position, orientation / lengths, (float(spacing[0]), float(spacing[1])), thickness)


def numbers(header: Dataset, keyword: str, frame: int, count: int) -> Float64[ndarray, " count"] | None:
    """Return the values of an attribute that has a fixed count of numbers.

    Args:
        header: the object's attributes.
        keyword: the attribute, one of MACROS.
        frame: number of the frame, from 0.
        count: how many values it has.

    Returns:
        The values; None where the attribute is absent or empty.

    Raises:
        UnreadableDicom: the values are not that many finite numbers.
    """
    values = several(frame_value(header, keyword, frame))
    if not values:
        return None
    try:
        found = np.array([to_float(value) for value in values])
    except (TypeError, ValueError):
        found = np.empty(0)
    if found.shape != (count,) or not np.isfinite(found).all():
        got = ", ".join(printable(value) for value in values[:8])
        raise UnreadableDicom(f"expected {count} finite numbers in {keyword}, got {got}")
    return found


def printable(value: Any) -> str:
    """Return a value for a message: short and printable, because it comes from outside."""
    return "".join(letter for letter in str(value)[:48] if letter.isalnum() or letter in " _-+.,:") or "nothing"


def positive_number(value: Any) -> float | None:
    """Return a number, or None for anything but one finite positive number."""
    try:
        number = to_float(several(value)[0])
    except (TypeError, ValueError, IndexError):
        return None
    return number if 0 < number < np.inf else None
