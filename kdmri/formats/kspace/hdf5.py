"""HDF5 of unknown origin: opened, searched and read without leaving the file and within a memory limit."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import SEEK_END
from pathlib import Path
from typing import BinaryIO

import h5py
import numpy as np
from numpy import ndarray

from kdmri.errors import UnreadableKSpace, UnsupportedInput

MAX_BYTES = 8 * 2**30
"""Refused beyond this: four times a scan of 40 slices, 32 coils and 640 x 320 samples."""

SIGNATURE = b"\x89HDF\r\n\x1a\n"
"""At the start of a file, or after a user block of 512 bytes times a power of two, as MATLAB writes it."""


@contextmanager
def intact() -> Iterator[None]:
    """Turn whatever h5py raises inside the block into UnreadableKSpace: its own message may hold paths."""
    try:
        yield
    except (OSError, RuntimeError, KeyError, IndexError, ValueError, TypeError, NotImplementedError) as error:
        raise UnreadableKSpace("expected an intact HDF5 file, got one that is truncated or damaged") from error


@contextmanager
def open_file(source: Path | BinaryIO) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading. Raises UnreadableKSpace where it is damaged or something else."""
    try:
        file = h5py.File(source, "r")
    except (OSError, RuntimeError, ValueError) as error:
        raise UnreadableKSpace("expected an intact HDF5 file, got one that is truncated or damaged") from error
    with file:
        yield file


def is_hdf5(stream: BinaryIO) -> bool:
    """Search the places where HDF5 allows its signature; the stream is left at its beginning."""
    size = stream.seek(0, SEEK_END)
    start, found = 0, False
    while start < size and not found:
        stream.seek(start)
        found = stream.read(len(SIGNATURE)) == SIGNATURE
        start = max(512, 2 * start)
    stream.seek(0)
    return found


def member(group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset | None:
    """Return the member of this name, or None if there is none.

    Soft and external links can lead to any file that this process may read, so only hard links are followed.
    """
    with intact():
        link = group.get(name, getlink=True)
        if link is not None and not isinstance(link, h5py.HardLink):
            raise UnreadableKSpace(f"expected `{name}` in the file itself, got a link to elsewhere")
        return None if link is None else group[name]


def groups(file: h5py.File) -> Iterator[h5py.Group]:
    """Yield the root and the groups that lie directly in it; links are passed over."""
    yield file
    with intact():
        hard = [name for name in file if isinstance(file.get(name, getlink=True), h5py.HardLink)]
        yield from (found for name in hard if isinstance(found := file[name], h5py.Group))


def check(dataset: h5py.Dataset, max_bytes: int) -> None:
    """Raise UnreadableKSpace where the samples lie outside the file, UnsupportedInput where they exceed `max_bytes`."""
    with intact():
        # Virtual and external datasets lead to other files, which the service may be able to read and the client not.
        elsewhere = dataset.is_virtual or dataset.external
        size = 0 if dataset.shape is None else dataset.size * dataset.dtype.itemsize
    if elsewhere:
        raise UnreadableKSpace("expected samples in the file itself, got a dataset that refers to other files")
    check_size(size, max_bytes)


def check_size(size: int, max_bytes: int) -> None:
    """Raise UnsupportedInput where `size` exceeds `max_bytes`."""
    if size > max_bytes:
        raise UnsupportedInput(f"expected at most {max_bytes / 2**30:.3g} GiB of k-space, got {size / 2**30:.3g} GiB")


def array(dataset: h5py.Dataset, max_bytes: int = MAX_BYTES) -> ndarray:
    """Read all of a dataset, after `check`."""
    check(dataset, max_bytes)
    with intact():
        return np.asarray(dataset[()])
