"""MR DICOM to magnitude images: classic and Enhanced MR, in every transfer syntax that pydicom decodes."""

import copy
import io
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pydicom
from jaxtyping import Float32
from numpy import ndarray
from pydicom import Dataset, uid

from kdmri.data.geometry import Geometry
from kdmri.data.images import Images
from kdmri.errors import KdmriError, UnreadableDicom, UnsupportedInput
from kdmri.formats.dicom.attributes import Plane, component, frame_count, is_enhanced, modality_pixels, plane
from kdmri.formats.dicom.leniency import lenient_pydicom

MAX_PIXELS = 2**27
"""Pixels of one call, over all instances and frames: 512 slices of 512 x 512, 512 MB of float32."""
MAX_UNPACKED = 2**30
"""Bytes of all members of a zip, and of one deflated data set."""
SAME_DIRECTION = 1e-4
"""Direction cosines that differ by less are one orientation: scanners write them with 1e-6 to 1e-9 of noise a slice."""
SAME_SPACING = 1e-4
"""Relative; see `SAME_DIRECTION`."""


@dataclass(frozen=True)
class DicomSeries:
    """Slices of one series that share size, orientation and spacing, in the order in which they came."""

    images: Images
    """Pixels in modality units (after the rescale), brighter is more; geometry None where a slice lacks its plane."""
    headers: tuple[Dataset, ...]
    """The source data sets without their pixels: one per slice, or Enhanced MR with a frame per slice."""
    frames: tuple[tuple[int, ...], ...] = ()
    """For each header the frame numbers (from 1) that its slices have in the source instance; () means all."""


def looks_like_dicom(head: bytes) -> bool:
    """Whether a file with these first 132 bytes (or more) is DICOM: by its prefix or, without one, by its first tag."""
    if head[128:132] == b"DICM":
        return True
    little = head[:2] in (b"\x02\x00", b"\x08\x00") and head[3:4] == b"\x00"
    big = head[:3] == b"\x00\x08\x00"
    return len(head) >= 8 and (little or big)


@lenient_pydicom()
def read(sources: Sequence[bytes | BinaryIO | Path], *, max_pixels: int = MAX_PIXELS) -> list[DicomSeries]:
    """MR instances to series: grouped by SeriesInstanceUID, then by size, orientation and spacing.

    Of an Enhanced MR object that also has other frames (phase, a field map) the magnitude frames are taken.

    Raises UnreadableDicom for what is not DICOM or is damaged; UnsupportedInput for anything but magnitude MR images in
    grey levels, and for more than `max_pixels` in all, before any are decoded.
    """
    return _grouped([_parsed(_content(source)) for source in sources], max_pixels)


@lenient_pydicom()
def read_zip(
    file: BinaryIO | Path, *, max_bytes: int = MAX_UNPACKED, max_pixels: int = MAX_PIXELS
) -> list[DicomSeries]:
    """A zip of MR instances, as `read`; members that are no DICOM images (text, DICOMDIR, reports) are skipped.

    Raises what `read` raises, and UnsupportedInput for encrypted members and for more than `max_bytes` unpacked.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            contents = list(_members(archive, max_bytes))
    except (KdmriError, FileNotFoundError):
        raise
    except Exception as error:  # zipfile's own, and those of each compression
        raise UnreadableDicom("expected a zip of DICOM instances, got a damaged archive") from error
    datasets = [_parsed(content) for content in contents if looks_like_dicom(content[:132])]
    return _grouped([dataset for dataset in datasets if "Rows" in dataset], max_pixels)


# --- bytes to data sets ---


def _content(source: bytes | BinaryIO | Path) -> bytes:
    if isinstance(source, bytes):
        return source
    return source.read_bytes() if isinstance(source, Path) else source.read()


def _members(archive: zipfile.ZipFile, max_bytes: int) -> Iterator[bytes]:
    members = [member for member in archive.infolist() if not member.is_dir()]
    if any(member.flag_bits & 1 for member in members):
        raise UnsupportedInput("expected a plain zip, got one with encrypted members")
    # zipfile never unpacks more of a member than the directory declares: this sum is a bound.
    total = sum(member.file_size for member in members)
    if total > max_bytes:
        raise UnsupportedInput(f"expected a zip of at most {max_bytes} bytes unpacked, got {total}")
    for member in members:
        yield archive.read(member)


def _parsed(content: bytes) -> Dataset:
    """The data set of a file, with or without preamble and file meta information."""
    if not looks_like_dicom(content[:132]):
        raise UnreadableDicom("expected a DICOM file, got something else")
    try:
        _check_deflated(content)
        dataset = pydicom.dcmread(io.BytesIO(content), force=True)
        dataset.buffer = None  # or the header would keep the whole file
        if "TransferSyntaxUID" not in dataset.file_meta:
            dataset.file_meta.TransferSyntaxUID = _guessed_syntax(dataset)
        _drop_unintelligible(dataset)
        return dataset
    except KdmriError:
        raise
    except Exception as error:  # pydicom raises anything at all on damaged bytes
        raise UnreadableDicom(f"expected a whole DICOM object, got a damaged one ({type(error).__name__})") from error


def _drop_unintelligible(dataset: Dataset) -> None:
    """Interpret every element, and leave out what can't be: one odd value in a header must not cost the image."""
    for tag in list(dataset.keys()):
        try:
            element = dataset[tag]
        except Exception:  # by VR: ValueError, TypeError, struct.error, ...
            del dataset[tag]
            continue
        for item in element.value if element.VR == "SQ" else ():
            _drop_unintelligible(item)


def _guessed_syntax(dataset: Dataset) -> uid.UID:
    """The uncompressed transfer syntax in which pydicom found a data set without meta information to be encoded."""
    implicit, little = dataset.original_encoding
    if implicit:
        return uid.ImplicitVRLittleEndian
    return uid.ExplicitVRLittleEndian if little else uid.ExplicitVRBigEndian


def _check_deflated(content: bytes) -> None:
    """Refuse a deflated data set (PS3.5 A.5) of more than `MAX_UNPACKED` bytes: pydicom unpacks it whole."""
    if uid.DeflatedExplicitVRLittleEndian.encode() not in content[:1024]:
        return
    start = 144 + int.from_bytes(content[140:144], "little")  # preamble, prefix, group length element, its value
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    unpacker.decompress(content[start:], MAX_UNPACKED)
    if unpacker.unconsumed_tail:
        raise UnsupportedInput(f"expected a deflated data set of at most {MAX_UNPACKED} bytes, got more")


# --- data sets to series ---


@dataclass(frozen=True)
class _Slice:
    source: Dataset
    frame: int
    plane: Plane | None
    pixels: Float32[ndarray, "row column"]

    def belongs_with(self, other: "_Slice") -> bool:
        """Whether the two can stand in one stack."""
        if self.source.get("SeriesInstanceUID") != other.source.get("SeriesInstanceUID"):
            return False
        if self.pixels.shape != other.pixels.shape or is_enhanced(self.source) != is_enhanced(other.source):
            return False
        if self.plane is None or other.plane is None:
            return self.plane is other.plane
        turned = np.abs(self.plane.orientation - other.plane.orientation).max() > SAME_DIRECTION
        return not turned and np.allclose(self.plane.spacing, other.plane.spacing, rtol=SAME_SPACING, atol=0)


def _grouped(datasets: Sequence[Dataset], max_pixels: int) -> list[DicomSeries]:
    if not datasets:
        raise UnreadableDicom("expected at least one DICOM image, got none")
    try:
        total = sum(_checked_size(dataset) for dataset in datasets)
        if total > max_pixels:
            raise UnsupportedInput(f"expected at most {max_pixels} pixels in all, got {total}")
        groups: list[list[_Slice]] = []
        for piece in (piece for dataset in datasets for piece in _slices(dataset)):
            group = next((group for group in groups if group[0].belongs_with(piece)), None)
            if group is None:
                groups.append([piece])
            else:
                group.append(piece)
        return [_joined(group) for group in groups]
    except KdmriError:
        raise
    except Exception as error:  # a value of the wrong kind, anywhere in a data set
        raise UnreadableDicom(f"expected a well-formed MR image, got a damaged one ({type(error).__name__})") from error


def _checked_size(header: Dataset) -> int:
    """Pixels of an instance over all frames; raises UnsupportedInput for anything but MR images in grey levels."""
    if header.get("Modality") != "MR":
        raise UnsupportedInput(f"expected an MR image, got {_said('modality', header.get('Modality'))}")
    photometric = header.get("PhotometricInterpretation")
    if photometric not in ("MONOCHROME1", "MONOCHROME2") or header.get("SamplesPerPixel", 1) != 1:
        raise UnsupportedInput(f"expected monochrome pixels, got {_said('photometric interpretation', photometric)}")
    sop_class = uid.UID(header.get("SOPClassUID") or "")
    if sop_class != uid.MRImageStorage and not is_enhanced(header):
        got = _said("SOP class", sop_class.name)
        raise UnsupportedInput(f"expected MR Image Storage or Enhanced MR Image Storage, got {got}")
    described = len(header.get("PerFrameFunctionalGroupsSequence") or ()) if is_enhanced(header) else 1
    if frame_count(header) != described:
        raise UnsupportedInput(f"expected as many frames as are described, {described}, got {frame_count(header)}")
    if "ModalityLUTSequence" in header:
        raise UnsupportedInput("expected a linear rescale, got a modality lookup table")
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        if not header.get(keyword):
            raise UnreadableDicom(f"expected an instance with a {keyword}, got none")
    rows, columns = int(header.get("Rows") or 0), int(header.get("Columns") or 0)
    if min(rows, columns) < 1:
        raise UnreadableDicom(f"expected an image with rows and columns, got {rows} x {columns}")
    return rows * columns * frame_count(header)


def _said(what: str, value: Any) -> str:
    """A coded value for a message: short and printable, for it comes from outside."""
    printable = "".join(letter for letter in str(value or "")[:48] if letter.isalnum() or letter in " _-.")
    return f"{what} {printable}" if printable else f"no {what}"


def _slices(dataset: Dataset) -> Iterator[_Slice]:
    """The magnitude frames of an instance; takes the pixel data off it."""
    components = [component(dataset, frame) for frame in range(frame_count(dataset))]
    frames = [frame for frame, shown in enumerate(components) if shown == "magnitude"]
    if not frames:
        raise UnsupportedInput(f"expected magnitude images, got {components[0]}")
    pixels = modality_pixels(dataset, frames)
    del dataset.PixelData
    for frame, image in zip(frames, pixels, strict=True):
        yield _Slice(dataset, frame, plane(dataset, frame), image)


def _joined(group: Sequence[_Slice]) -> DicomSeries:
    frames: dict[int, list[int]] = {}
    sources = {id(piece.source): piece.source for piece in group}
    for piece in group:
        frames.setdefault(id(piece.source), []).append(piece.frame)
    return DicomSeries(
        Images(np.stack([piece.pixels for piece in group]), _geometry([piece.plane for piece in group])),
        tuple(_with_frames(source, frames[key]) for key, source in sources.items()),
        tuple(tuple(frame + 1 for frame in kept) for kept in frames.values()),
    )


def _with_frames(source: Dataset, frames: Sequence[int]) -> Dataset:
    """A header with the functional groups of these frames only."""
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
