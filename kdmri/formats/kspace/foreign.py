"""Files that are sent as k-space and are not: named by their first bytes, with the programme that converts them.

Signatures are those that the converters themselves check. Formats without one (Bruker's `fid`, Philips' `.raw`) are
named by the file's name where the command line or a zip has it.
"""

import re
import struct
from collections.abc import Sequence
from pathlib import PurePath

from kdmri.errors import KdmriError, UnreadableKSpace, UnsupportedInput

BEGINNING = 1024
"""Bytes of a file that `refusal` looks at."""
SIEMENS_BUFFERS = (b"Config\0", b"Dicom\0", b"Meas\0", b"MeasYaps\0", b"Phoenix\0", b"Spice\0")
"""Names of the protocol buffers in the header of a measurement (twix; mapVBVD's read_twix_hdr)."""
MAX_MEASUREMENTS = 64
"""Measurements in one file of VD or VE, at most: mapVBVD's test for these versions."""
MEASUREMENT_ALIGNMENT = 512
"""Measurements of VD and VE begin at multiples of this many bytes."""
GE_LOGO = slice(34, 44)
GE_LOGOS = (b"GE_MED_NMR", b"INVALIDNMR")
"""Logo in the header of a GE P-file (rdb_hdr_logo), in use or not."""
PHILIPS_LABEL = slice(14, 16)
PHILIPS_LABELS = (b"\x00\x7f", b"\x01\x7f")
"""Label type of a record of 64 bytes in a Philips .lab file: 0x7f00 for data, 0x7f01 for the end."""

SIEMENS = "Siemens raw data (twix): convert it by siemens_to_ismrmrd -f FILE -o scan.h5"
GE = "a GE P-file: convert it by ge_to_ismrmrd or by GE's Orchestra to ISMRMRD"
PHILIPS = "Philips raw data: convert .raw, .lab and .sin together by philips_to_ismrmrd"
BRUKER = "Bruker raw data: convert the experiment's folder by bruker_to_ismrmrd or brkraw, or write (slice, coil, row, "
BRUKER += "column) as .npy"
BY_NAME = {
    ".raw": PHILIPS,
    ".lab": PHILIPS,
    ".sin": PHILIPS,
    ".list": PHILIPS,
    ".data": PHILIPS,
    "fid": BRUKER,
    "ser": BRUKER,
    "acqp": BRUKER,
    "method": BRUKER,
    "rawdata.job0": BRUKER,
}
"""Formats by suffix or name, for those whose samples begin without a signature."""
COMPRESSED = {b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"7z\xbc\xaf": "7z", b"Rar!": "rar", b"\x28\xb5\x2f\xfd": "zstd"}


def refusal(beginning: bytes, size: int, name: str = "") -> KdmriError:
    """Return the error for a file that is in no format of k-space that is read.

    Args:
        beginning: the file's first `BEGINNING` bytes, all of a shorter one.
        size: its length in bytes.
        name: its name where it is known; it is never repeated.
    """
    pointer = _pointer(beginning)
    if pointer:
        return UnreadableKSpace(f"expected k-space, got {pointer}")
    # Scanners' signatures first: their files are what is meant to be k-space, and the message names the converter.
    other = _vendor(beginning) or _other(beginning) or by_name([name])
    if other:
        return UnsupportedInput(f"expected k-space in HDF5 (fastMRI, ISMRMRD), .npy or BART's .cfl, got {other}")
    return UnreadableKSpace(f"expected an HDF5 file, got {size} bytes that begin with {_describe(beginning[:8])}")


def by_name(names: Sequence[str]) -> str:
    """Return what a set of files is by their names alone; an empty text where names say nothing."""
    paths = [PurePath(name.lower()) for name in names]
    return next((BY_NAME[key] for path in paths for key in (path.name, path.suffix) if key in BY_NAME), "")


def _pointer(beginning: bytes) -> str:
    """Recognise what downloads leave in the place of a file."""
    # Data sets under version control leave a text of some hundred bytes where the file was not fetched.
    text = beginning.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS in its place: fetch the file itself by git lfs pull"
    if b"annex/objects/" in text[:512]:
        return "a pointer of git-annex in its place: fetch the file itself by git annex get or datalad get"
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "an HTML page in its place: the download answered with a page, perhaps one to log in or to confirm"
    if text.startswith(b"<?xml") and b"<error>" in text:
        return "an error message of a file store (XML) in its place: download the file again"
    return ""


def _vendor(beginning: bytes) -> str:
    """Recognise raw data of scanners."""
    if _is_siemens(beginning):
        return SIEMENS
    if beginning[GE_LOGO] in GE_LOGOS:
        return GE
    text = beginning[:400]
    if beginning[PHILIPS_LABEL] in PHILIPS_LABELS or re.match(rb"\d\d \d\d \d\d: \w+", text):
        return PHILIPS
    if re.match(rb"#.{0,20}DATA DESCRIPTION FILE", text):
        images = b"Patient name" in beginning or b".PAR" in beginning or b"image export" in beginning.lower()
        return "Philips PAR, which describes images: send the raw data, converted" if images else PHILIPS
    return BRUKER if text.startswith(b"##TITLE=") else ""


def _is_siemens(beginning: bytes) -> bool:
    """Recognise twix: VB by the first buffer's name, VD and VE by their table of measurements."""
    if len(beginning) < 32:
        return False
    # VD and VE begin with a version below 10,000 and the number of measurements, then a table of where they lie.
    first, count = struct.unpack_from("<II", beginning)
    if beginning[8:].startswith(SIEMENS_BUFFERS):
        return True
    place, length = struct.unpack_from("<QQ", beginning, 16)
    aligned = place > 0 and place % MEASUREMENT_ALIGNMENT == 0
    return bool(first < 10_000 and 0 < count <= MAX_MEASUREMENTS and aligned and length > 0)


def _other(beginning: bytes) -> str:
    """Recognise images, and archives that are not unpacked here."""
    if beginning.startswith((b"yardl", b'{"yardl"')):
        return "an MRD v2 stream: write ISMRMRD version 1 in HDF5, or convert it by the tools of the MRD repository"
    if beginning[128:132] == b"DICM":
        return "a DICOM file: images are the input of super-resolution"
    if beginning[344:348] in (b"n+1\0", b"ni1\0"):
        return "a NIfTI image: reconstruction needs the k-space that it was made of"
    if beginning.startswith(b"MATLAB 5.0"):
        return "a MATLAB 5 file: save it again with -v7.3, which is HDF5"
    if beginning.startswith(b"# Dimensions"):
        return "the .hdr of a BART pair without its .cfl: send both in one zip"
    if beginning[257:262] == b"ustar":
        return "a tar archive: send its k-space file alone"
    kinds = (kind for magic, kind in COMPRESSED.items() if beginning.startswith(magic))
    return next((f"a file compressed by {kind}: unpack it, or use gzip or zip" for kind in kinds), "")


def _describe(beginning: bytes) -> str:
    return repr(beginning.decode("ascii")) if beginning.isascii() else f"hexadecimal {beginning.hex(' ')}"
