"""Raw k-space in HDF5, whichever layout: told apart by what the file holds, never by its name."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from kdmri.data.kspace import KSpace, Scan
from kdmri.errors import UnreadableKSpace
from kdmri.formats.kspace import fastmri, hdf5, mrd


def read(source: Path | BinaryIO, *, contrast: int = 0, repetition: int = 0, max_bytes: int = hdf5.MAX_BYTES) -> KSpace:
    """All of the k-space that `opened` finds."""
    with opened(source, contrast=contrast, repetition=repetition, max_bytes=max_bytes) as scan:
        return scan.select(slice(None))


@contextmanager
def opened(
    source: Path | BinaryIO, *, contrast: int = 0, repetition: int = 0, max_bytes: int = hdf5.MAX_BYTES
) -> Iterator[Scan]:
    """K-space of a fastMRI or ISMRMRD file of at most `max_bytes`, decompressed, for as long as the context lasts.

    A fastMRI file's slices are read when they are asked for. An ISMRMRD file is read at once: its lines come in the
    order of their measurement, which slices share. `contrast` and `repetition` choose among those that it has; see
    `mrd.read`. Raises UnreadableKSpace (when slices are asked for, too), UnsupportedInput, and InvalidRequest for a
    contrast or repetition that isn't there.
    """
    with hdf5.opened(source) as file:
        if hdf5.member(file, "kspace") is not None:
            yield fastmri.stored(file, max_bytes=max_bytes)
        elif mrd.recognised(file):
            yield mrd.read(file, contrast=contrast, repetition=repetition, max_bytes=max_bytes)
        else:
            raise UnreadableKSpace(
                "expected k-space: a dataset `kspace` (fastMRI) or a group with `data` and `xml` (ISMRMRD), got neither"
            )
