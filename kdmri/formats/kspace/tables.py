"""Tables of ISMRMRD acquisitions (version 1): groups that hold them, and what is read of them at a time."""

from dataclasses import dataclass
from typing import Protocol

import h5py
import numpy as np
from ismrmrd.hdf5 import acquisition_header_dtype
from numpy import ndarray

from kdmri.errors import UnreadableKSpace, UnsupportedInput
from kdmri.formats.kspace import hdf5
from kdmri.formats.kspace.datasets import check_filters

LINES_AT_ONCE = 64
"""Acquisitions read together: few enough to stay in cache until they lie in the grid."""


class Table(Protocol):
    """Acquisitions in the order of their measurement."""

    def heads(self, max_bytes: int) -> tuple[ndarray, int]:
        """Read the fixed part of every acquisition, and how many of them may be read at a time."""

    def readouts(self, start: int, stop: int) -> ndarray:
        """Read the samples of a range of acquisitions: an array of arrays of float32."""


@dataclass(frozen=True)
class StoredTable:
    """Acquisitions in the HDF5 layout of ISMRMRD."""

    data: h5py.Dataset

    def heads(self, max_bytes: int) -> tuple[ndarray, int]:
        """Read the fixed part of every acquisition. Raises UnreadableKSpace, UnsupportedInput."""
        return _heads(self.data, max_bytes)

    def readouts(self, start: int, stop: int) -> ndarray:
        """Read the samples of a range of acquisitions. Raises UnreadableKSpace."""
        with hdf5.intact():
            return np.asarray(self.data.fields("data")[start:stop])


def acquisition_groups(groups: list[h5py.Group]) -> list[h5py.Group]:
    """Return those of the groups that hold acquisitions, most lines first. Raises UnsupportedInput for MRD v2."""
    if any(hdf5.member(group, "$yardl_schema") is not None for group in groups):
        raise UnsupportedInput("MRD v2 file: expected ISMRMRD version 1 or fastMRI in HDF5")
    # Most lines first: converters put noise scans into groups beside the image's.
    found = [group for group in groups if _has_acquisitions(group)]
    return sorted(found, key=lambda group: -(group["data"].size or 0))


def _has_acquisitions(group: h5py.Group) -> bool:
    data = hdf5.member(group, "data")
    if not isinstance(data, h5py.Dataset):
        return False
    with hdf5.intact():
        return {"head", "data"} <= set(data.dtype.names or ())


def table_and_header(group: h5py.Group) -> tuple[StoredTable, bytes]:
    """Return the acquisitions and the XML header of a group. Raises UnreadableKSpace where there is no header."""
    xml = hdf5.member(group, "xml")
    if not isinstance(xml, h5py.Dataset) or not xml.size:
        raise UnreadableKSpace("expected an ISMRMRD header `xml` beside the acquisitions, got none")
    # Variable-length strings come as bytes or text, depending on the character set that the writer declared.
    first = hdf5.array(xml).reshape(-1)[0]
    return StoredTable(group["data"]), first.encode() if isinstance(first, str) else bytes(first)


def _heads(data: h5py.Dataset, max_bytes: int) -> tuple[ndarray, int]:
    """Read the fixed part of every acquisition, and how many of them may be read at a time."""
    hdf5.check(data, max_bytes)
    check_filters(data)
    with hdf5.intact():
        stored, names = h5py.check_vlen_dtype(data.dtype["data"]), data.dtype["head"].names
        if data.ndim != 1 or stored != np.float32 or names != acquisition_header_dtype.names:
            raise UnreadableKSpace(f"expected ISMRMRD acquisitions of float32 pairs, got {stored} {data.shape}")
        if data.chunks and not data.id.get_create_plist().get_nfilters():
            stubs = _stubs(data)
            hdf5.check_size(stored.itemsize * int(stubs["data"].sum() + stubs["traj"].sum()), max_bytes)
            return stubs["head"], LINES_AT_ONCE
        # Lines may share their storage, but none is longer than the file: so many of them stay within the limit.
        step = int(np.clip(max_bytes // data.file.id.get_filesize(), 1, LINES_AT_ONCE))
        return np.asarray(data.fields("head")[()]), step


def _stubs(data: h5py.Dataset) -> ndarray:
    """Read acquisitions as they lie in the table: `head`, and the lengths of `traj` and `data`, which lie elsewhere.

    HDF5 reads all samples to give the heads alone, the better part of its time. In the file a variable-length
    field is a 32-bit length and an address (HDF5 file format, "Reference to the global heap").
    """
    fields = {name: data.dtype.fields[name] for name in ("head", "traj", "data")}
    stub = np.dtype(
        {
            "names": list(fields),
            "formats": [fields["head"][0], "<u4", "<u4"],
            "offsets": [offset for _, offset, *_ in fields.values()],
            "itemsize": data.id.get_type().get_size(),
        }
    )
    chunks = [data.id.read_direct_chunk((start,))[1] for start in range(0, data.size, data.chunks[0])]
    return np.frombuffer(b"".join(chunks), dtype=stub)[: data.size]
