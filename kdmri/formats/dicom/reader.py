"""MR DICOM to magnitude images: classic and Enhanced MR, in every transfer syntax that pydicom decodes."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Bool, Float32
from numpy import ndarray
from pydicom import Dataset

from kdmri.data.geometry import Geometry
from kdmri.data.images import Images
from kdmri.errors import UnsupportedInput
from kdmri.formats.dicom.attributes import Plane, frame_count, is_enhanced, plane, quantity
from kdmri.formats.dicom.leniency import lenient_pydicom
from kdmri.formats.dicom.parsing import looks_like_dicom
from kdmri.formats.dicom.pixels import decode_pixels
from kdmri.formats.dicom.selection import check_complete, magnitude_frames, skipped_note
from kdmri.formats.dicom.tiles import slice_headers, tile_name, tiling
from kdmri.formats.dicom.upload import Upload, naming

__all__ = ["DicomSeries", "looks_like_dicom", "read", "read_zip"]

MAX_PIXELS = 2**27
"""Pixels of one call, over all instances and frames: 512 slices of 512 x 512, 512 MB of float32."""
MAX_UNPACKED = 2**30
"""Bytes of all members of zips and of all deflated data sets together."""
SAME_DIRECTION = 1e-4
"""Direction cosines that differ by less are one orientation: scanners write them with 1e-6 to 1e-9 of noise a slice."""
SAME_SPACING = 1e-4
"""Relative difference of spacings that are one; see `SAME_DIRECTION`."""


@dataclass(frozen=True)
class DicomSeries:
    """Slices of one series that share size, orientation and spacing, in the order in which they came."""

    images: Images
    """Pixels in modality units (after the rescale), brighter is more; geometry None where a slice lacks its plane."""
    headers: tuple[Dataset, ...]
    """The source data sets without their pixels: one per slice, or Enhanced MR with a frame per slice."""
    frames: tuple[tuple[int, ...], ...] = ()
    """For each header the frame numbers (from 1) that its slices have in the source instance; () means all."""
    padding: Bool[ndarray, "slice row column"] | None = None
    """Pixels that PixelPaddingValue marks as outside the image, which are 0 in `images`; None where there are none."""
    notes: tuple[str, ...] = ()
    """What was left out or assumed while the upload was read; the first of its series has the notes of all."""


@lenient_pydicom()
def read(
    sources: Sequence[bytes | BinaryIO | Path], *, max_bytes: int = MAX_UNPACKED, max_pixels: int = MAX_PIXELS
) -> list[DicomSeries]:
    """Read MR instances, grouped by study and series, then by size, orientation and spacing.

    A source may be a zip of instances. One rule holds for files, parts and members of zips: what is no magnitude MR
    image is left out and counted in the notes, and refused only where nothing else is there. An image that is damaged
    is an error that names its series and instance number: a hole in a series must not go unseen. An instance that came
    twice is worked on once. Of an Enhanced MR object that also has other frames (phase, a field map) the magnitude
    frames are taken.

    Args:
        sources: files, at least one.
        max_bytes: bound on the bytes that zips and deflated data sets unpack to, together.
        max_pixels: bound on the pixels of all images, checked before any is decoded.

    Raises:
        UnreadableDicom: nothing is DICOM, or an image is damaged.
        UnsupportedInput: nothing is a magnitude MR image, or a bound is exceeded.
    """
    upload = Upload(max_bytes)
    for source in sources:
        upload.add(source)
    return _group(upload, max_pixels)


@lenient_pydicom()
def read_zip(
    file: BinaryIO | Path, *, max_bytes: int = MAX_UNPACKED, max_pixels: int = MAX_PIXELS
) -> list[DicomSeries]:
    """Read a zip of MR instances: `read` of one source that must be a zip.

    Args:
        file: the archive.
        max_bytes: bound on the bytes that its members unpack to, together.
        max_pixels: bound on the pixels of all images, checked before any is decoded.

    Raises:
        UnreadableDicom: the archive is damaged, or nothing in it is DICOM.
        UnsupportedInput: nothing is a magnitude MR image, or a bound is exceeded.
    """
    upload = Upload(max_bytes)
    if isinstance(file, Path):
        with file.open("rb") as opened:
            upload.add_zip(opened)
    else:
        upload.add_zip(file)
    return _group(upload, max_pixels)


@dataclass(frozen=True)
class _Slice:
    source: Dataset
    frame: int
    plane: Plane | None
    pixels: Float32[ndarray, "row column"]
    padding: Bool[ndarray, "row column"] | None

    def belongs_with(self, other: "_Slice") -> bool:
        """True if the two can stand in one stack."""
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID"):
            if self.source.get(keyword) != other.source.get(keyword):
                return False
        if self.pixels.shape != other.pixels.shape or is_enhanced(self.source) != is_enhanced(other.source):
            return False
        if self.plane is None or other.plane is None:
            return self.plane is other.plane
        turned = np.abs(self.plane.orientation - other.plane.orientation).max() > SAME_DIRECTION
        return not turned and np.allclose(self.plane.spacing, other.plane.spacing, rtol=SAME_SPACING, atol=0)


def _group(upload: Upload, max_pixels: int) -> list[DicomSeries]:
    if not upload.images:
        raise upload.nothing_left()
    total = 0
    for dataset in upload.images:
        with naming(dataset):
            total += check_complete(dataset)
    if total > max_pixels:
        raise UnsupportedInput(f"expected at most {max_pixels} pixels in all, got {total}")
    # The bound is checked before any image is decoded: a header of a few bytes may claim gigabytes.
    groups: list[list[_Slice]] = []
    known: dict[str, list[list[_Slice]]] = {}
    repeated = tiled = unpacked = 0
    for dataset in upload.images:
        with naming(dataset):
            slices = list(_slices(dataset))
            earlier = known.setdefault(str(dataset.SOPInstanceUID), [])
            # Equal UIDs alone are no proof: some writers give one UID to all slices of a series.
            if any(_is_same(slices, other) for other in earlier):
                repeated += 1
                continue
            earlier.append(slices)
            if slices[0].source is not dataset:
                tiled, unpacked = tiled + 1, unpacked + len(slices)
        # In the order of arrival, so that the answer's slices are in the order of the upload.
        for piece in slices:
            group = next((group for group in groups if group[0].belongs_with(piece)), None)
            if group is None:
                groups.append([piece])
            else:
                group.append(piece)
    notes = list(upload.notes)
    if upload.skipped:
        notes.insert(0, skipped_note(upload.skipped, upload.total))
    if repeated:
        notes.append(f"{repeated} instances that came more than once were worked on once.")
    if tiled:
        notes.append(f"{tiled} tiled images were unpacked to {unpacked} slices.")
    if maps := dict.fromkeys(name for group in groups if (name := quantity(group[0].source))):
        notes.append(
            f"Maps of a quantity ({', '.join(maps)}) were refined like grey levels: values keep their unit, "
            "and those between the measured ones are no measurements."
        )
    first, *others = map(_join, groups)
    return [replace(first, notes=tuple(notes)), *others]


def _slices(dataset: Dataset) -> Iterator[_Slice]:
    """Decode the magnitude frames of an instance, or the slices of a tiled one; takes the pixel data off it."""
    frames = magnitude_frames(dataset)
    decoded = decode_pixels(dataset, frames)
    # The decoded pixels are twice as large already; the header lives on until the answer is written.
    del dataset.PixelData
    tiles = None if is_enhanced(dataset) or tile_name(dataset) is None else tiling(dataset)
    if tiles is not None:
        image, mask = decoded.values[0], None if decoded.padding is None else decoded.padding[0]
        for header, cell in zip(slice_headers(dataset, tiles), tiles.cells(), strict=True):
            padding = None if mask is None else mask[cell]
            yield _Slice(header, 0, plane(header, 0), np.ascontiguousarray(image[cell]), padding)
        return
    for index, frame in enumerate(frames):
        padding = None if decoded.padding is None else decoded.padding[index]
        yield _Slice(dataset, frame, plane(dataset, frame), decoded.values[index], padding)


def _is_same(slices: Sequence[_Slice], others: Sequence[_Slice]) -> bool:
    """True for two copies of one instance: equal pixels, and equal public attributes but for how it was stored."""
    if len(slices) != len(others):
        return False
    if not all(np.array_equal(one.pixels, other.pixels) for one, other in zip(slices, others, strict=True)):
        return False
    mine, theirs = (_public(pieces[0].source) for pieces in (slices, others))
    return mine == theirs


def _public(dataset: Dataset) -> dict[int, str]:
    return {tag: str(dataset[tag].value) for tag in list(dataset.keys()) if not tag.is_private and tag.group < 0x7FE0}


def _join(group: Sequence[_Slice]) -> DicomSeries:
    frames: dict[int, list[int]] = {}
    # By identity, because data sets compare by value, and two of one upload may be equal.
    sources = {id(piece.source): piece.source for piece in group}
    for piece in group:
        frames.setdefault(id(piece.source), []).append(piece.frame)
    return DicomSeries(
        Images(np.stack([piece.pixels for piece in group]), _geometry([piece.plane for piece in group])),
        tuple(_with_frames(source, frames[key]) for key, source in sources.items()),
        tuple(tuple(frame + 1 for frame in kept) for kept in frames.values()),
        _join_padding(group),
    )


def _join_padding(group: Sequence[_Slice]) -> Bool[ndarray, "slice row column"] | None:
    if all(piece.padding is None for piece in group):
        return None
    return np.stack([np.zeros(piece.pixels.shape, bool) if piece.padding is None else piece.padding for piece in group])


def _with_frames(source: Dataset, frames: Sequence[int]) -> Dataset:
    """Return a header with the functional groups of these frames only."""
    if len(frames) == frame_count(source):
        return source
    header = copy.deepcopy(source)
    groups = header.PerFrameFunctionalGroupsSequence
    header.PerFrameFunctionalGroupsSequence = [groups[frame] for frame in frames]
    header.NumberOfFrames = len(frames)
    return header


def _geometry(planes: Sequence[Plane | None]) -> Geometry | None:
    first = planes[0]
    if first is None:
        return None
    positions = np.stack([plane.position for plane in planes if plane is not None])
    return Geometry(positions, first.orientation, first.spacing, first.thickness)
