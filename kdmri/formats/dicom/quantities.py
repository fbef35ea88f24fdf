"""Physical quantities behind stored values: scanners' own scale factors and real world value mappings, re-expressed.

An answer has another rescale than its source. Attributes that turn *stored* values into a quantity are rewritten, so
that the same place in the image still gives the same quantity.
"""

import copy
from collections.abc import Sequence

import numpy as np
from pydicom import Dataset

from kdmri.formats.dicom.attributes import frame_value, private_value
from kdmri.formats.dicom.numbers import several
from kdmri.formats.dicom.pixels import inversion, rescale_of
from kdmri.formats.dicom.stored_values import LARGEST

SCALE_SLOPE = (0x2005, "Philips MR Imaging DD 001", 0x0E)
"""Philips' floating point values are modality value / (RescaleSlope x scale slope): dcm2niix's `intenScalePhilips`."""
FRAME_PRIVATE = (0x2005, "Philips MR Imaging DD 005", 0x0F)
"""Sequence in which Philips' Enhanced MR keeps a frame's private elements."""
FIRST_MAPPED, LAST_MAPPED = 0x00409216, 0x00409211


def carry_scale_slope(source: Dataset, frame: int, target: Dataset, slope: float) -> None:
    """Write Philips' scale slope for a new RescaleSlope: SS' = RS x SS / RS'.

    Args:
        source: the source's attributes.
        frame: number of the frame, from 0.
        target: the new object, or the functional groups of its frame.
        slope: the new RescaleSlope RS'.
    """
    old = _scale_slope(source, frame)
    if old is None:
        return
    holder = target
    if source.get("PerFrameFunctionalGroupsSequence"):
        holder = Dataset()
        group, creator, offset = FRAME_PRIVATE
        target.private_block(group, creator, create=True).add_new(offset, "SQ", [holder])
    group, creator, offset = SCALE_SLOPE
    value = rescale_of(source, frame)[0] * old / slope
    holder.private_block(group, creator, create=True).add_new(offset, "FL", value)


def _scale_slope(header: Dataset, frame: int) -> float | None:
    """Return Philips' scale slope of a frame: its own, else that of all frames, else the object's; or None."""
    holders = [header]
    for groups, item in (("SharedFunctionalGroupsSequence", 0), ("PerFrameFunctionalGroupsSequence", frame)):
        if header.get(groups):
            holders.insert(0, header[groups][item])
    for holder in holders:
        items = private_value(holder, *FRAME_PRIVATE)
        for place in (*(items[:1] if isinstance(items, Sequence) else ()), holder):
            values = several(private_value(place, *SCALE_SLOPE)) if isinstance(place, Dataset) else []
            if len(values) == 1 and isinstance(values[0], float | int) and np.isfinite(values[0]) and values[0] != 0:
                return float(values[0])
    return None


def rescale_type(headers: Sequence[Dataset]) -> str:
    """Return the unit of the modality values that all headers state, or US (unspecified)."""
    # One rescale for the series can have one unit only.
    types = {str(frame_value(header, "RescaleType", 0) or "US") for header in headers}
    return types.pop() if len(types) == 1 else "US"


def real_world_mappings(header: Dataset, frame: int, slope: float) -> list[Dataset]:
    """Return the linear real world value mappings of a frame, for stored values of the new RescaleSlope `slope`.

    With the source's rescale (RS, RI) and mapping (w, i), and with s' the new stored value, w s + i becomes w' s' + i':
    w' = w slope / RS and i' = i - w RI / RS. MONOCHROME1 was turned round by s -> C - s, which changes w's sign and
    adds w C.

    Args:
        header: the source's attributes.
        frame: number of the frame, from 0.
        slope: the new RescaleSlope; the new intercept is 0.

    Returns:
        Items of RealWorldValueMappingSequence. Items with a table instead of a line are left out.
    """
    old_slope, old_intercept = rescale_of(header, frame)
    turned = inversion(header)
    sign, offset = (1.0, 0.0) if turned is None else (-1.0, float(turned))
    sources = _sources(header, frame)
    mappings = []
    for source in sources:
        line = [source.get(keyword) for keyword in ("RealWorldValueSlope", "RealWorldValueIntercept")]
        if not all(isinstance(value, float | int) and np.isfinite(value) for value in line):
            continue
        weight, intercept = map(float, line)
        values = [source[tag].value for tag in (FIRST_MAPPED, LAST_MAPPED) if tag in source]
        ends = [float(value) for value in values if isinstance(value, float | int)]
        item = copy.deepcopy(source)
        item.RealWorldValueSlope = weight * sign * slope / old_slope
        item.RealWorldValueIntercept = intercept + weight * (offset - sign * old_intercept / old_slope)
        low, high = -LARGEST, LARGEST
        if len(sources) > 1 and len(ends) == 2:
            # Several items share the range of stored values among them: each keeps its part.
            moved = [(old_slope * sign * (end - offset) + old_intercept) / slope for end in ends]
            low, high = (int(np.clip(round(end), -LARGEST, LARGEST)) for end in sorted(moved))
        item.add_new(FIRST_MAPPED, "SS", low)
        item.add_new(LAST_MAPPED, "SS", high)
        mappings.append(item)
    return mappings


def _sources(header: Dataset, frame: int) -> list[Dataset]:
    """Return the mappings of one frame as the source has them: its own, else those of all frames, else the object's."""
    for groups, item in (("PerFrameFunctionalGroupsSequence", frame), ("SharedFunctionalGroupsSequence", 0)):
        if header.get(groups) and header[groups][item].get("RealWorldValueMappingSequence"):
            return list(header[groups][item].RealWorldValueMappingSequence)
    return list(header.get("RealWorldValueMappingSequence") or ())
