"""Bytes of one file to a data set, within bounds on what parsing may take."""

import io
import traceback
import zlib

from pydicom import Dataset, uid
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import _read_file_meta_info, read_partial, read_preamble
from pydicom.filewriter import write_file_meta_info
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag

from kdmri.errors import KdmriError, UnreadableDicom, UnsupportedInput
from kdmri.formats.dicom.elements import repair

MAX_ELEMENTS = 2**15
"""Elements at the top of a data set; scanners write some hundreds."""
BIT_COUNTS = ("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel")
HEAD = 132
"""Bytes of preamble and prefix."""


def looks_like_dicom(head: bytes) -> bool:
    """True if a file that begins with these 132 bytes is DICOM: by its prefix or, without one, by its first tag."""
    if head[128:132] == b"DICM":
        return True
    # Without a preamble a file begins with an element of group 0002 or 0008, in either byte order.
    little = head[:2] in (b"\x02\x00", b"\x08\x00") and head[3:4] == b"\x00"
    big = head[:3] == b"\x00\x08\x00"
    return len(head) >= 8 and (little or big)


def parse(content: bytes, max_bytes: int) -> tuple[Dataset, list[str], int]:
    """Parse one file, with or without preamble and file meta information.

    Args:
        content: the file.
        max_bytes: bound on a data set that is deflated as a whole.

    Returns:
        The data set, notes about what was left out of it or assumed, and the bytes that it took unpacked.

    Raises:
        UnreadableDicom: the content is not DICOM, or damaged.
        UnsupportedInput: a deflated data set is larger than the bound.
    """
    if not looks_like_dicom(content[:HEAD]):
        raise UnreadableDicom("expected a DICOM file, got something else")
    try:
        content = _inflate(content, max_bytes)
        dataset = read_partial(io.BytesIO(content), stop_when=_End(), force=True)
        dataset.buffer = None  # Otherwise the header would keep the whole file in memory.
        if "TransferSyntaxUID" not in dataset.file_meta:
            dataset.file_meta.TransferSyntaxUID = _guess_syntax(dataset)
        notes = _complete(dataset)
        notes += repair(dataset)
        return dataset, notes, len(content)
    except KdmriError:
        raise
    except Exception as error:  # pydicom raises anything at all on damaged bytes
        if any(
            frame.f_globals.get("__name__") == "pydicom.charset" for frame, _ in traceback.walk_tb(error.__traceback__)
        ):
            raise UnreadableDicom("expected the name of a character set in SpecificCharacterSet, got none") from error
        raise UnreadableDicom(f"expected a whole DICOM object, got a damaged one ({type(error).__name__})") from error


class _End:
    """Condition that ends a data set: element (0000,xxxx), which padding with zeros reads as, or too many elements.

    A gigabyte of zeros behind an image would otherwise be parsed as 134 million empty elements.
    """

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, tag: BaseTag, vr: str | None, length: int) -> bool:
        self.count += 1
        if self.count > MAX_ELEMENTS:
            raise UnreadableDicom(f"expected at most {MAX_ELEMENTS} elements in a data set, got more")
        return tag.group == 0


def _complete(dataset: Dataset) -> list[str]:
    """Fill in attributes that other readers take for granted, and return a note for each."""
    notes = []
    # These are read before the data set is repaired, because the VRs of others depend on them.
    for keyword in (*BIT_COUNTS, "SOPClassUID", "SOPInstanceUID"):
        try:
            value = dataset.get(keyword)
        except Exception as error:  # By VR: OSError, TypeError, ValueError, ...
            raise UnreadableDicom(f"expected a readable {keyword}, got a damaged one") from error
        if keyword in BIT_COUNTS and isinstance(value, MultiValue | list):
            raise UnreadableDicom(f"expected one value in {keyword}, got {len(value)}")
    if "Rows" in dataset and "BitsAllocated" in dataset:
        if dataset.get("BitsStored") is None:
            high = dataset.get("HighBit")
            dataset.BitsStored = int(dataset.BitsAllocated) if high is None else int(high) + 1
            notes.append("BitsStored is absent and was taken from the other bit counts.")
        # One sample is all that MR has, and needs no note.
        if dataset.get("SamplesPerPixel") is None:
            dataset.SamplesPerPixel = 1
        if dataset.get("PixelRepresentation") is None:
            dataset.PixelRepresentation = 0
            notes.append("PixelRepresentation is absent: pixels were taken to be unsigned.")
    for keyword, meta in (("SOPClassUID", "MediaStorageSOPClassUID"), ("SOPInstanceUID", "MediaStorageSOPInstanceUID")):
        if not dataset.get(keyword) and dataset.file_meta.get(meta):
            dataset.add_new(keyword, "UI", dataset.file_meta[meta].value)  # An empty element may have another VR.
            notes.append(f"{keyword} is absent and was taken from the file meta information.")
    return notes


def _guess_syntax(dataset: Dataset) -> uid.UID:
    """Return the uncompressed syntax in which pydicom found a data set without meta information to be encoded."""
    # Without meta information no compressed syntax can be meant: DICOM's default is one of these three.
    implicit, little = dataset.original_encoding
    if implicit:
        return uid.ImplicitVRLittleEndian
    return uid.ExplicitVRLittleEndian if little else uid.ExplicitVRBigEndian


def _inflate(content: bytes, max_bytes: int) -> bytes:
    """Return a file whose data set is not deflated as a whole (PS3.5 A.5): pydicom unpacks without a bound."""
    # A search of bytes is fast, and spares nearly all files the parsing of their meta information.
    if uid.DeflatedExplicitVRLittleEndian.encode() not in content:
        return content
    file = io.BytesIO(content)
    read_preamble(file, force=True)
    meta = _read_file_meta_info(file)
    if meta.get("TransferSyntaxUID") != uid.DeflatedExplicitVRLittleEndian:
        return content
    # Negative: a raw deflate stream without zlib's header (PS3.5 A.5).
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    plain = unpacker.decompress(content[file.tell() :], max_bytes)
    if unpacker.unconsumed_tail:
        raise UnsupportedInput(f"expected a deflated data set of at most {max_bytes} bytes, got more")
    meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    head = DicomBytesIO()
    write_file_meta_info(head, meta, enforce_standard=False)
    return bytes(HEAD - 4) + b"DICM" + head.getvalue() + plain
