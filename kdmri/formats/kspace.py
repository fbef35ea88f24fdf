"""Raw k-space in HDF5, whichever layout: told apart by what the file holds, never by its name."""

from pathlib import Path
from typing import BinaryIO

from kdmri.errors import UnreadableKSpace
from kdmri.formats import fastmri, hdf5, mrd
from kdmri.records import KSpace


def read(source: Path | BinaryIO, *, contrast: int = 0, repetition: int = 0, max_bytes: int = hdf5.MAX_BYTES) -> KSpace:
    """K-space of a fastMRI or ISMRMRD file of at most `max_bytes`, decompressed.

    `contrast` and `repetition` choose among those of an ISMRMRD file; see `mrd.read`.
    Raises UnreadableKSpace, UnsupportedInput, and InvalidRequest for a contrast or repetition that isn't there.
    """
    with hdf5.opened(source) as file:
        if hdf5.member(file, "kspace") is not None:
            return fastmri.read(file, max_bytes=max_bytes)
        if mrd.recognised(file):
            return mrd.read(file, contrast=contrast, repetition=repetition, max_bytes=max_bytes)
        raise UnreadableKSpace(
            "expected k-space: a dataset `kspace` (fastMRI) or a group with `data` and `xml` (ISMRMRD), got neither"
        )
