"""Classic MR images that hold several slices as tiles: Siemens' mosaics and United Imaging's VFRAMEs.

A network would carry detail across the borders between tiles, so that they are worked on slice by slice or not at all.
Where each slice lies is stated by the makers' private elements alone. The arithmetic is that of nibabel's
MosaicWrapper, and of `nii_demosaic` and `set_nii_header_x` in dcm2niix.
"""

import copy
import math
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64
from numpy import ndarray
from pydicom import Dataset

from kdmri.formats.dicom.attributes import image_type, numbers, plane, positive_number, private_value
from kdmri.formats.dicom.numbers import decimals, several, to_float

# nibabel warns of all of its DICOM readers when they are imported. The CSA reader is used here alone, under a guard:
# an importer of kdmri could do nothing about the warning.
with warnings.catch_warnings():
    warnings.simplefilter("ignore", UserWarning)
    from nibabel.nicom import csareader

SIEMENS_COUNT = (0x0019, "SIEMENS MR HEADER", 0x0A)
SIEMENS_CSA = (0x0029, "SIEMENS CSA HEADER", 0x10)
CSA_COUNT = re.compile(rb"NumberOfImagesInMosaic\0.{41}.{20}.{16} *([0-9]{1,4})", re.DOTALL)
"""Siemens' CSA header: a name in 64 bytes, 20 bytes about its values, 16 bytes about the first, and its digits."""
UIH_COUNT, UIH_SLICES = 0x00651050, 0x00651051
"""Number of slices in a VFRAME (dcm2niix: kNumberOfImagesInGridUIH), and a sequence with one item for each."""
MOSAIC, VFRAME = "MOSAIC", "VFRAME"
WORDS = (MOSAIC, VFRAME)
"""Values of ImageType by which the makers mark tiled images."""
MOST_SLICES = 4096
"""Tiles of one image that are believed: a header's count comes from outside."""


@dataclass(frozen=True)
class Tiling:
    """Slices of one tiled image, row by row from its upper left corner."""

    rows: int
    columns: int
    """Size of one tile in pixels."""
    across: int
    """Number of tiles in a row."""
    positions: Float64[ndarray, "slice 3"]
    """ImagePositionPatient of each slice in mm."""

    def cells(self) -> Iterator[tuple[slice, slice]]:
        """Yield the rows and columns that each slice has in the image."""
        for number in range(len(self.positions)):
            row, column = (number // self.across) * self.rows, (number % self.across) * self.columns
            yield slice(row, row + self.rows), slice(column, column + self.columns)


def tile_name(header: Dataset) -> str | None:
    """Return the name of a classic image that is tiled from several slices, or None for one slice."""
    words = {str(term).upper() for term in image_type(header, 0)}
    count = _siemens_count(header)
    if count > 1 or MOSAIC in words:
        return f"a mosaic of {count} slices" if count > 1 else "a mosaic of slices"
    count = _first_integer(header[UIH_COUNT].value) if UIH_COUNT in header else 0
    if VFRAME in words or (count > 1 and "UIH" in str(header.get("Manufacturer", "")).upper()):
        return f"a VFRAME of {count} slices" if count > 1 else "a VFRAME of slices"
    return None


def tiling(header: Dataset) -> Tiling | None:
    """Return the slices of a tiled image with their positions; None where the header does not state all of them.

    Raises:
        UnreadableDicom: position, orientation or spacing of the image are not numbers.
    """
    count, is_siemens = _siemens_count(header), True
    if count < 2:
        count, is_siemens = (_first_integer(header[UIH_COUNT].value) if UIH_COUNT in header else 0), False
    if not 1 < count <= MOST_SLICES:
        return None
    # The least square that holds all slices, by integers: a root in floating point may fall short of a whole number.
    across = math.isqrt(count - 1) + 1
    # 20 slices are 5 x 5 tiles in a mosaic, of which 5 are empty, and 4 rows of 5 tiles in a VFRAME.
    down = across if is_siemens else -(-count // across)
    if int(header.Rows) % down or int(header.Columns) % across:
        return None
    rows, columns = int(header.Rows) // down, int(header.Columns) // across
    positions = _mosaic_positions(header, count, rows, columns) if is_siemens else _vframe_positions(header, count)
    return None if positions is None else Tiling(rows, columns, across, positions)


def slice_headers(header: Dataset, tiles: Tiling) -> list[Dataset]:
    """Return the attributes of each slice: those of the tiled image with the slice's own size, place and number."""
    shared = copy.deepcopy(header)
    for tag in list(shared.keys()):
        if tag.is_private and tag.group in (0x0029, 0x0065):
            del shared[tag]  # They describe all slices, and would be copied for each.
    # SliceLocation is that of the whole image, and would be wrong for every slice but one.
    shared.pop("SliceLocation", None)
    shared.Rows, shared.Columns = tiles.rows, tiles.columns
    terms = image_type(header, 0)
    shared.ImageType = terms if set(WORDS) & set(terms) else [*terms, MOSAIC]
    number = header.get("InstanceNumber")
    # Numbered on from image to image, so that no two slices of a series share a number.
    before = (number - 1) * len(tiles.positions) if isinstance(number, int) and number > 0 else 0
    headers = []
    for index, position in enumerate(tiles.positions):
        single = copy.deepcopy(shared)
        single.ImagePositionPatient = decimals(position)
        single.InstanceNumber = before + index + 1
        headers.append(single)
    return headers


def _mosaic_positions(header: Dataset, count: int, rows: int, columns: int) -> Float64[ndarray, "slice 3"] | None:
    """Return the positions of a mosaic's slices, from its plane and the slice normal in the CSA header.

    Siemens writes the position that the whole mosaic would have about the centre of the slices: the first pixel of a
    tile lies half of the difference in size further on.
    """
    image, normal = plane(header, 0), _slice_normal(header)
    if image is None or normal is None:
        return None
    spacing = (float(positive_number(header.get(key)) or 0) for key in ("SpacingBetweenSlices", "SliceThickness"))
    # The thickness stands in for a spacing that is not stated: slices are then taken to touch.
    between = next((value for value in spacing if value), None)
    if between is None:
        return None
    margin = (int(header.Columns) - columns) / 2 * image.spacing[1], (int(header.Rows) - rows) / 2 * image.spacing[0]
    first = image.position + margin[0] * image.orientation[0] + margin[1] * image.orientation[1]
    positions: Float64[ndarray, "slice 3"] = first + np.arange(count)[:, np.newaxis] * between * normal
    return positions


def _vframe_positions(header: Dataset, count: int) -> Float64[ndarray, "slice 3"] | None:
    """Return the positions that a VFRAME's private sequence states for its slices."""
    items = header[UIH_SLICES].value if UIH_SLICES in header and header[UIH_SLICES].VR == "SQ" else ()
    if len(items) != count:
        return None
    found = [numbers(item, "ImagePositionPatient", 0, 3) for item in items]
    stated = [position for position in found if position is not None]
    return np.stack(stated) if len(stated) == count else None


def _slice_normal(header: Dataset) -> Float64[ndarray, " 3"] | None:
    """Return the unit vector from slice to slice in a CSA header; None where there is none that can be read."""
    value = private_value(header, *SIEMENS_CSA)
    try:
        tags = csareader.read(value)["tags"] if isinstance(value, bytes) else {}
        normal = np.array([to_float(item) for item in tags["SliceNormalVector"]["items"]])
    except Exception:  # nibabel raises anything at all on damaged headers.
        return None
    length = float(np.linalg.norm(normal)) if normal.shape == (3,) else 0.0
    return normal / length if 0 < length < np.inf else None


def _siemens_count(header: Dataset) -> int:
    """Return the number of slices in a mosaic, by (0019,xx0A) or the CSA header; 0 where neither states one."""
    if count := _first_integer(private_value(header, *SIEMENS_COUNT)):
        return count
    value = private_value(header, *SIEMENS_CSA)
    match = CSA_COUNT.search(value) if isinstance(value, bytes) else None
    return int(match[1]) if match else 0


def _first_integer(value: Any) -> int:
    """Return the first value as an integer, 0 where there is none; private elements may be bytes of unknown VR."""
    values = [int.from_bytes(value[:2], "little")] if isinstance(value, bytes) else several(value)
    try:
        return int(float(values[0])) if values else 0
    except (TypeError, ValueError, OverflowError):
        return 0
