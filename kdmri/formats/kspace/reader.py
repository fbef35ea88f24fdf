"""Raw k-space in HDF5, whichever layout: told apart by what the file holds, never by its name."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from kdmri.data.kspace import KSpace, Scan
from kdmri.errors import UnreadableKSpace
from kdmri.formats.kspace import fastmri, hdf5, mrd


def read(
    source: Path | BinaryIO,
    *,
    contrast: int = 0,
    repetition: int = 0,
    phase: int = 0,
    set_number: int = 0,
    max_bytes: int = hdf5.MAX_BYTES,
) -> KSpace:
    """Read all of the k-space that `opened` finds, with the same arguments and errors."""
    with opened(
        source, contrast=contrast, repetition=repetition, phase=phase, set_number=set_number, max_bytes=max_bytes
    ) as scan:
        return scan.select(slice(None))


@contextmanager
def opened(
    source: Path | BinaryIO,
    *,
    contrast: int = 0,
    repetition: int = 0,
    phase: int = 0,
    set_number: int = 0,
    max_bytes: int = hdf5.MAX_BYTES,
) -> Iterator[Scan]:
    """Open the k-space of a fastMRI or ISMRMRD file for as long as the context lasts.

    A fastMRI file's slices are read when they are asked for. An ISMRMRD file is read at once: its lines come in the
    order of their measurement, which slices share.

    Args:
        source: path or seekable stream.
        contrast: which contrast of an ISMRMRD file, counted from the first there is.
        repetition: which repetition, likewise.
        phase: which cardiac phase, likewise.
        set_number: which set, likewise.
        max_bytes: largest size of the decompressed k-space.

    Raises:
        UnreadableKSpace: the file is damaged or of another kind (also when slices are asked for).
        UnsupportedInput: the scan is not 2-D Cartesian, or too large.
        InvalidRequest: there is no such contrast, repetition, phase or set.
    """
    with hdf5.opened(source) as file:
        if hdf5.member(file, "kspace") is not None:
            yield fastmri.stored(file, max_bytes=max_bytes)
        elif mrd.recognised(file):
            yield mrd.read(
                file,
                contrast=contrast,
                repetition=repetition,
                phase=phase,
                set_number=set_number,
                max_bytes=max_bytes,
            )
        else:
            raise UnreadableKSpace(
                "expected k-space: a dataset `kspace` (fastMRI) or a group with `data` and `xml` (ISMRMRD), got neither"
            )
