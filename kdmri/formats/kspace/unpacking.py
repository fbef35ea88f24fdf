"""One k-space file out of what was sent: bare, gzipped, in a zip, or a BART pair of two files.

Everything is unpacked in memory, because the process that reads uploads can open no file. Each size is held against
the limit before memory is taken: a zip's by its directory, which zipfile never exceeds, a gzip's piece by piece.
"""

import io
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import BinaryIO

from kdmri.errors import InvalidRequest, KdmriError, UnreadableKSpace, UnsupportedInput
from kdmri.formats.kspace import foreign

GZIP = b"\x1f\x8b"
ZIP = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
NPY = b"\x93NUMPY"
HDF5 = b"\x89HDF\r\n\x1a\n"
BART_HEADER = b"# Dimensions"
PIECE = 2**20
MAX_MEMBERS = 1000
"""Members of a zip that are looked at."""
MAX_HEADER_BYTES = 2**16
"""Longest .hdr of a BART pair: its history of commands included, some hundred times what is usual."""
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Compression methods that are unpacked. LZMA's takes memory by a number in the member, before any limit holds."""
ENCRYPTED = 1


@dataclass(frozen=True)
class Contents:
    """A k-space file, and the header of a BART pair or the mask of an .npz beside it."""

    main: Path | BinaryIO
    name: str = ""
    """Name of the file where it is known, for recognition only: it may hold a patient's."""
    bart_header: bytes | None = None
    mask: bytes | None = None

    def beginning(self) -> tuple[bytes, int]:
        """Return the first bytes of the file and its size."""
        with open_stream(self.main) as stream:
            size = stream.seek(0, io.SEEK_END)
            stream.seek(0)
            start = stream.read(foreign.BEGINNING)
            stream.seek(0)
        return start, size


@contextmanager
def open_stream(source: Path | BinaryIO) -> Iterator[BinaryIO]:
    """Open a path; a stream is passed on, and stays open."""
    if isinstance(source, Path):
        with source.open("rb") as stream:
            yield stream
    else:
        yield source


def contents(source: Path | BinaryIO, max_bytes: int) -> Contents:
    """Unpack what was sent, once: an archive in an archive is refused by its name.

    Args:
        source: path or seekable stream.
        max_bytes: largest size of all that is unpacked.

    Raises:
        UnreadableKSpace: an archive is damaged, or holds no k-space.
        UnsupportedInput: an archive unpacks to more than the limit, or holds several files of k-space.
    """
    # Only one layer is unpacked: archives in archives multiply, and no converter writes them.
    plain = Contents(source, source.name if isinstance(source, Path) else "")
    start, _ = plain.beginning()
    if start.startswith(GZIP):
        with open_stream(source) as stream:
            return Contents(_gunzip(stream, max_bytes), plain.name.removesuffix(".gz"))
    if start.startswith(ZIP):
        with open_stream(source) as stream:
            return _unzip(stream, max_bytes)
    if isinstance(source, Path) and source.suffix in (".cfl", ".hdr"):
        return _pair(source)
    return plain


def holds_kspace(zipped: BinaryIO) -> bool:
    """Recognise a zip of k-space by its members' first bytes and names; the stream is left at its beginning."""
    found = False
    try:
        with zipfile.ZipFile(zipped) as archive:
            for info in _files(archive):
                if not found and info.compress_type in METHODS and not info.flag_bits & ENCRYPTED:
                    with archive.open(info) as member:
                        start = member.read(foreign.BEGINNING)
                    found = start.startswith((HDF5, NPY, BART_HEADER, b"MATLAB 7.3"))
    except (zipfile.BadZipFile, zlib.error, OSError, ValueError, NotImplementedError, EOFError):
        found = False
    zipped.seek(0)
    return found


def _gunzip(stream: BinaryIO, max_bytes: int) -> BinaryIO:
    unpacked, unpacker = io.BytesIO(), zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        while piece := stream.read(PIECE):
            while piece:
                # In pieces of bounded size, so that a gzip bomb is noticed at the limit and not after it.
                unpacked.write(unpacker.decompress(piece, PIECE))
                if unpacked.tell() > max_bytes:
                    raise UnsupportedInput(f"expected a gzip of at most {max_bytes} bytes unpacked, got more")
                piece = unpacker.unconsumed_tail
                if unpacker.eof:
                    # Members of a gzip follow one another (RFC 1952); pigz and bgzip write several.
                    piece = unpacker.unused_data.lstrip(b"\0")
                    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16) if piece else unpacker
    except zlib.error as error:
        raise UnreadableKSpace("expected an intact gzip, got one that is damaged") from error
    if not unpacker.eof:
        raise UnreadableKSpace("expected an intact gzip, got one that ends early")
    unpacked.seek(0)
    return unpacked


def _files(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """Files of a zip, without folders and what desktops add (`__MACOSX`, `.DS_Store`, `Thumbs.db`)."""
    # Bounded before anything else: a central directory may list millions of members.
    found = []
    for info in archive.infolist()[:MAX_MEMBERS]:
        name = PurePath(info.filename)
        if not info.is_dir() and "__MACOSX" not in name.parts and name.name[:1] != "." and name.name != "Thumbs.db":
            found.append(info)
    return found


def _unzip(stream: BinaryIO, max_bytes: int) -> Contents:
    try:
        with zipfile.ZipFile(stream) as archive:
            infos = _files(archive)
            _check(infos, max_bytes)
            by_suffix = {PurePath(info.filename.lower()).suffix: info for info in infos}
            if len(infos) == 2 and {".cfl", ".hdr"} == set(by_suffix):
                header = archive.read(by_suffix[".hdr"])
                return Contents(io.BytesIO(archive.read(by_suffix[".cfl"])), bart_header=header)
            masks = [info for info in infos if PurePath(info.filename.lower()).name == "mask.npy"]
            others = [info for info in infos if info not in masks]
            if len(others) == 1 and len(masks) <= 1:
                mask = archive.read(masks[0]) if masks else None
                return Contents(io.BytesIO(archive.read(others[0])), others[0].filename, mask=mask)
    except KdmriError:
        raise
    except Exception as error:  # zipfile's own, and those of the compression
        raise UnreadableKSpace("expected an intact zip of one k-space file, got one that is damaged") from error
    raw = foreign.by_name([info.filename for info in infos])
    if raw:
        raise UnsupportedInput(f"expected a zip of one k-space file, got {raw}")
    expected = "expected a zip of one k-space file (HDF5, .npy with or without mask.npy, or BART's .cfl and .hdr)"
    raise UnreadableKSpace(f"{expected}, got {len(infos)} files")


def _check(infos: list[zipfile.ZipInfo], max_bytes: int) -> None:
    if any(info.flag_bits & ENCRYPTED for info in infos):
        raise UnsupportedInput("expected a plain zip, got one with encrypted members")
    if any(info.compress_type not in METHODS for info in infos):
        raise UnsupportedInput("expected a zip compressed by deflate, got one with members by another method")
    # zipfile never unpacks more of a member than the directory declares, so that this sum is a bound.
    total = sum(info.file_size for info in infos)
    if total > max_bytes:
        raise UnsupportedInput(f"expected a zip of at most {max_bytes} bytes unpacked, got {total}")


def _pair(path: Path) -> Contents:
    """Read a BART pair by the path of either file."""
    header, samples = path.with_suffix(".hdr"), path.with_suffix(".cfl")
    for needed in (header, samples):
        if not needed.is_file():
            raise InvalidRequest(f"expected the .cfl and the .hdr of a BART pair beside each other, no {needed.suffix}")
    with header.open("rb") as stream:
        return Contents(samples, bart_header=stream.read(MAX_HEADER_BYTES + 1))
