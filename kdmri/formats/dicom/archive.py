"""Members of a zip, unpacked one by one within bounds that are known beforehand."""

import binascii
import struct
import zipfile
from collections.abc import Iterator
from typing import BinaryIO

from inflate64 import Inflater

from kdmri.errors import KdmriError, UnreadableDicom, UnsupportedInput

SIGNATURES = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
"""First bytes of a zip: of a member, of an empty one, of one in several volumes."""
DEFLATE64 = 9
"""Compression method that Windows' Explorer takes for large folders (APPNOTE 4.4.5) and Python lacks."""
LOCAL_HEADER = 30
"""Bytes of a local file header before its name (APPNOTE 4.3.7)."""
MOST_PER_BYTE, SMALL = 1100, 2**20
"""Deflate gives at most 1032 bytes for one. Only LZMA and BZIP2 give more, and only of what is no image."""
PIECE = 2**16
"""Bytes that are unpacked at a time, so that a member beyond its declared size is noticed early."""


def members(file: BinaryIO, max_bytes: int) -> Iterator[bytes]:
    """Unpack the files of a zip.

    Args:
        file: the archive.
        max_bytes: bound on the sum of all members.

    Yields:
        The content of each member; folders are skipped.

    Raises:
        UnsupportedInput: members are encrypted, or unpack to more than the bound.
        UnreadableDicom: the archive is damaged.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            # All bounds are checked before any member is unpacked.
            infos = [info for info in archive.infolist() if not info.is_dir()]
            _check(infos, max_bytes)
            for info in infos:
                yield _inflate64(archive, info) if info.compress_type == DEFLATE64 else archive.read(info)
    except KdmriError:
        raise
    except Exception as error:  # zipfile's own, and those of each compression
        raise UnreadableDicom("expected a zip of DICOM instances, got a damaged archive") from error


def _check(infos: list[zipfile.ZipInfo], max_bytes: int) -> None:
    if any(info.flag_bits & 1 for info in infos):
        raise UnsupportedInput("expected a plain zip, got one with encrypted members")
    # zipfile never unpacks more of a member than the directory declares, so that this sum is a bound.
    total = sum(info.file_size for info in infos)
    if total > max_bytes:
        raise UnsupportedInput(f"expected a zip of at most {max_bytes} bytes unpacked, got {total}")
    # A small member is harmless at any ratio: files of zeros compress a thousand times.
    for info in infos:
        if info.file_size > max(SMALL, MOST_PER_BYTE * info.compress_size):
            ratio = info.file_size // max(info.compress_size, 1)
            expected = f"members that unpack to at most {MOST_PER_BYTE} times their size"
            raise UnsupportedInput(f"expected {expected}, got {ratio}")


def _inflate64(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """Unpack a member in Deflate64, at most as many bytes as the directory declares."""
    file = archive.fp
    if file is None:
        raise ValueError("the archive is closed")
    # The local header repeats the name, and its extra field may be of another length than the directory's.
    file.seek(info.header_offset)
    name, extra = struct.unpack_from("<HH", file.read(LOCAL_HEADER), LOCAL_HEADER - 4)
    file.seek(info.header_offset + LOCAL_HEADER + name + extra)
    unpacker, content, left = Inflater(), bytearray(), info.compress_size
    while left > 0 and len(content) < info.file_size and (piece := file.read(min(PIECE, left))):
        left -= len(piece)
        content += unpacker.inflate(piece)
    if len(content) != info.file_size or binascii.crc32(content) != info.CRC:
        raise zipfile.BadZipFile("size or checksum of a member differ from the directory's")
    return bytes(content)
