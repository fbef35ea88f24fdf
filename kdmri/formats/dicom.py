"""MR DICOM to magnitude images: classic and Enhanced MR, in every transfer syntax that pydicom decodes."""

import io
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pydicom
from jaxtyping import Float32, Float64
from numpy import ndarray
from pydicom import Dataset, uid
from pydicom.pixels import pixel_array

from kdmri.errors import KdmriError, UnreadableDicom, UnsupportedInput
from kdmri.records import Geometry, Images

# pydicom's warnings quote the offending values, which may be a patient's: they must not reach a log.
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE

MAX_PIXELS = 2**27
"""Pixels of one call, over all instances and frames: 512 slices of 512 x 512, 512 MB of float32."""
MAX_UNZIPPED = 2**31
"""Bytes of the members of a zip, and of one deflated data set."""

MULTI_FRAME = (uid.EnhancedMRImageStorage, uid.LegacyConvertedEnhancedMRImageStorage)

MACROS = {
    "PixelSpacing": "PixelMeasuresSequence",
    "SliceThickness": "PixelMeasuresSequence",
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
    "WindowCenter": "FrameVOILUTSequence",
    "WindowWidth": "FrameVOILUTSequence",
    "FrameType": "MRImageFrameTypeSequence",
    "ComplexImageComponent": "MRImageFrameTypeSequence",
}
"""Where Enhanced MR keeps what classic MR keeps at the top (PS3.3 C.7.6.16.2 and C.8.13.5)."""

# ImageType value 3 on: PS3.3 C.8.3.1.1.1 and what Siemens, Philips and GE write there.
COMPONENTS = {
    "P": "phase",
    "PHASE": "phase",
    "PHASE MAP": "phase",
    "PHASE SUBTRACT": "phase",
    "VELOCITY MAP": "phase",
    "FIELD_MAP": "field map",
    "R": "real",
    "REAL": "real",
    "I": "imaginary",
    "IMAGINARY": "imaginary",
}
GE_COMPONENTS = {1: "phase", 2: "real", 3: "imaginary"}
"""(0043,xx2F) of GEMS_PARM_01: GE names the component nowhere else."""


@dataclass(frozen=True)
class DicomSeries:
    """Slices of one series that share size, orientation and spacing, in the order in which they came."""

    images: Images
    """Pixels in modality units (after the rescale), brighter is more; geometry None where a slice lacks it."""
    headers: tuple[Dataset, ...]
    """The source data sets without their pixels: one per slice, or Enhanced MR with one frame per slice."""
    frames: tuple[tuple[int, ...], ...] = ()
    """For each header the frame numbers (from 1) that its slices had in the source; () for classic MR."""


def looks_like_dicom(head: bytes) -> bool:
    """Whether a file that begins with `head` (132 bytes or more) is DICOM: by its prefix, or by its first tag without one."""
    if head[128:132] == b"DICM":
        return True
    group, element = head[:2], head[2:4]
    little = group in (b"\x02\x00", b"\x08\x00") and element[1:] == b"\x00"
    big = group == b"\x00\x08" and element[:1] == b"\x00"
    return len(head) >= 8 and (little or big)


def read(sources: Sequence[bytes | BinaryIO | Path], *, max_pixels: int = MAX_PIXELS) -> list[DicomSeries]:
    """MR instances to series: grouped by SeriesInstanceUID, then by size, orientation and spacing.

    Of an Enhanced MR object with magnitude and other frames the magnitude frames are taken.

    Raises UnreadableDicom for what is not DICOM or is damaged, and UnsupportedInput for what is no magnitude MR image
    in grey levels or has more than `max_pixels` pixels in all.
    """
    return _series([_parsed(_content(source)) for source in sources], max_pixels)


def read_zip(
    file: BinaryIO | Path, *, max_bytes: int = MAX_UNZIPPED, max_pixels: int = MAX_PIXELS
) -> list[DicomSeries]:
    """A zip of MR instances, as `read`; members that are no DICOM images (text, DICOMDIR, reports) are skipped.

    Raises what `read` raises, and UnsupportedInput for encrypted members and for more than `max_bytes` unpacked.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            contents = list(_members(archive, max_bytes))
    except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError, zlib.error) as error:
        raise UnreadableDicom("expected a zip of DICOM instances, got a damaged archive") from error
    datasets = [_parsed(content) for content in contents if looks_like_dicom(content[:132])]
    return _series([dataset for dataset in datasets if "Rows" in dataset], max_pixels)


def frame_value(header: Dataset, keyword: str, frame: int) -> Any:
    """The value of an attribute for one frame (from 0): its own, else shared by all, else of the whole; None if absent."""
    macro = MACROS[keyword]
    for groups in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
        items = header.get(groups)
        item = items[frame if groups.startswith("Per") else 0] if items else None
        if item is not None and item.get(macro) and item[macro][0].get(keyword) is not None:
            return item[macro][0].get(keyword)
    return header.get(keyword)


def is_multi_frame(header: Dataset) -> bool:
    """Whether it is Enhanced MR, and so has a functional group for each frame."""
    return header.get("SOPClassUID") in MULTI_FRAME


# --- bytes to data sets ---


def _content(source: bytes | BinaryIO | Path) -> bytes:
    match source:
        case bytes():
            return source
        case Path():
            return source.read_bytes()
        case _:
            return source.read()


def _members(archive: zipfile.ZipFile, max_bytes: int) -> Iterator[bytes]:
    members = [member for member in archive.infolist() if not member.is_dir()]
    if any(member.flag_bits & 1 for member in members):
        raise UnsupportedInput("expected a plain zip, got one with encrypted members")
    # zipfile never unpacks more of a member than the directory declares, so that this sum is a bound.
    total = sum(member.file_size for member in members)
    if total > max_bytes:
        raise UnsupportedInput(f"expected a zip of at most {max_bytes} bytes unpacked, got {total}")
    for member in members:
        yield archive.read(member)


def _parsed(content: bytes) -> Dataset:
    """The data set in the bytes of a file, with or without preamble and file meta information."""
    if not looks_like_dicom(content[:132]):
        raise UnreadableDicom("expected a DICOM file, got something else")
    try:
        _check_deflated(content)
        dataset = pydicom.dcmread(io.BytesIO(content), force=True)
        if "TransferSyntaxUID" not in dataset.file_meta:
            dataset.file_meta.TransferSyntaxUID = _guessed_syntax(dataset)
        return dataset
    except KdmriError:
        raise
    except Exception as error:  # pydicom raises anything at all on damaged bytes
        raise UnreadableDicom(f"expected a whole DICOM object, got a damaged one ({type(error).__name__})") from error


def _guessed_syntax(dataset: Dataset) -> uid.UID:
    """The uncompressed transfer syntax in which pydicom found it to be encoded."""
    implicit, little = dataset.original_encoding
    return uid.ImplicitVRLittleEndian if implicit else uid.ExplicitVRLittleEndian if little else uid.ExplicitVRBigEndian


def _check_deflated(content: bytes) -> None:
    """Refuse a deflated data set (PS3.5 A.5) of more than `MAX_UNZIPPED` bytes: pydicom unpacks it whole."""
    if uid.DeflatedExplicitVRLittleEndian.encode() not in content[:1024]:
        return
    start = 144 + int.from_bytes(content[140:144], "little")  # preamble, prefix, group length element, its value
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    unpacker.decompress(content[start:], MAX_UNZIPPED)
    if unpacker.unconsumed_tail:
        raise UnsupportedInput(f"expected a deflated data set of at most {MAX_UNZIPPED} bytes, got more")


# --- what can't be worked on ---


def _check_supported(header: Dataset) -> None:
    """Raise UnsupportedInput for anything but MR images in grey levels."""
    if header.get("Modality") != "MR":
        raise UnsupportedInput(f"expected an MR image, got {_said('modality', header.get('Modality'))}")
    photometric = header.get("PhotometricInterpretation")
    if photometric not in ("MONOCHROME1", "MONOCHROME2") or header.get("SamplesPerPixel", 1) != 1:
        raise UnsupportedInput(f"expected monochrome pixels, got {_said('photometric interpretation', photometric)}")
    sop_class = header.get("SOPClassUID")
    if sop_class != uid.MRImageStorage and not is_multi_frame(header):
        name = uid.UID(sop_class or "").name
        raise UnsupportedInput(f"expected MR Image Storage or Enhanced MR Image Storage, got {_said('SOP class', name)}")
    if not is_multi_frame(header) and _frame_count(header) != 1:
        raise UnsupportedInput(f"expected one frame in MR Image Storage, got {_frame_count(header)}")
    if "ModalityLUTSequence" in header:
        raise UnsupportedInput("expected a linear rescale, got a modality lookup table")


def _said(what: str, value: Any) -> str:
    """A code value for a message: short and printable, for it comes from outside."""
    printable = "".join(c for c in str(value or "")[:48] if c.isalnum() or c in " _-.()")
    return f"{what} {printable}" if printable else f"no {what}"


def _component(header: Dataset, frame: int) -> str:
    """Which part of the complex image a frame shows: 'magnitude', or what it is instead."""
    component = frame_value(header, "ComplexImageComponent", frame)
    if component in ("PHASE", "REAL", "IMAGINARY"):
        return str(component).lower()
    ge = header.private_block(0x0043, "GEMS_PARM_01") if _has_block(header, 0x0043, "GEMS_PARM_01") else None
    if ge is not None and 0x2F in ge:
        value = ge[0x2F].value
        return GE_COMPONENTS.get(value[0] if isinstance(value, pydicom.multival.MultiValue) else value, "magnitude")
    image_type = frame_value(header, "FrameType", frame) or header.get("ImageType") or ()
    return next((COMPONENTS[value] for value in image_type[2:] if value in COMPONENTS), "magnitude")


def _has_block(header: Dataset, group: int, creator: str) -> bool:
    return creator in header.private_creators(group)


def _frame_count(header: Dataset) -> int:
    return int(header.get("NumberOfFrames") or 1)


def _pixel_count(header: Dataset) -> int:
    rows, columns = header.get("Rows"), header.get("Columns")
    if not (isinstance(rows, int) and isinstance(columns, int) and rows > 0 and columns > 0):
        raise UnreadableDicom(f"expected rows and columns, got {_said('rows', rows)} and {_said('columns', columns)}")
    return rows * columns * _frame_count(header)


# --- data sets to series ---


def _series(datasets: Sequence[Dataset], max_pixels: int) -> list[DicomSeries]:
    if not datasets:
        raise UnreadableDicom("expected at least one DICOM image, got none")
    try:
        for dataset in datasets:
            _check_supported(dataset)
        total = sum(_pixel_count(dataset) for dataset in datasets)
        if total > max_pixels:
            raise UnsupportedInput(f"expected at most {max_pixels} pixels in all, got {total}")
        groups: list[list[DicomSeries]] = []
        for stack in (stack for dataset in datasets for stack in _stacks(dataset)):
            group = next((group for group in groups if _belong_together(group[0], stack)), None)
            if group is None:
                groups.append([stack])
            else:
                group.append(stack)
        return [_joined(group) for group in groups]
    except KdmriError:
        raise
    except Exception as error:  # a value of the wrong type anywhere in a data set
        raise UnreadableDicom(f"expected a well-formed MR image, got a damaged one ({type(error).__name__})") from error


def _stacks(dataset: Dataset) -> Iterator[DicomSeries]:
    """The magnitude frames of one instance, together where their orientation and spacing are the same."""
    components = [_component(dataset, frame) for frame in range(_frame_count(dataset))]
    frames = [frame for frame, component in enumerate(components) if component == "magnitude"]
    if not frames:
        raise UnsupportedInput(f"expected magnitude images, got {components[0]}")
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence", ())
    if is_multi_frame(dataset) and len(per_frame) != len(components):
        raise UnreadableDicom(f"expected functional groups for {len(components)} frames, got {len(per_frame)}")
    pixels = _modality_pixels(dataset, frames)
    del dataset.PixelData
    while frames:
