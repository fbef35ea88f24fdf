"""Raw k-space, whichever format: told apart by what the file holds, never by its name."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, TypedDict, Unpack

import h5py

from kdmri.data.kspace import KSpace, Scan
from kdmri.errors import InvalidRequest, UnreadableKSpace, UnsupportedInput
from kdmri.formats.kspace import arrays, datasets, fastmri, foreign, hdf5, mrd, stream, tables, unpacking
from kdmri.formats.kspace.layouts import Samples

MAX_OVERSAMPLING = 8.0
"""Largest factor of readout oversampling that a request may state; scanners use 2, rarely 4."""


class Selection(TypedDict, total=False):
    """Part of a file that is read, and what a file without a header does not state."""

    contrast: int
    """Which contrast, counted from the first there is; repetition, phase and set_number likewise."""
    repetition: int
    phase: int
    """Which cardiac phase."""
    set_number: int
    group: str | None
    """Which group or dataset of an HDF5 file; None for the best that can be reconstructed."""
    oversampling: float
    """Factor by which the readout of a file without header is oversampled: the image is the centre of its rows."""


def read(source: Path | BinaryIO, *, max_bytes: int = hdf5.MAX_BYTES, **selection: Unpack[Selection]) -> KSpace:
    """Read all of the k-space that `open_scan` finds, with the same arguments and errors."""
    with open_scan(source, max_bytes=max_bytes, **selection) as scan:
        return scan.select(slice(None))


@contextmanager
def open_scan(
    source: Path | BinaryIO, *, max_bytes: int = hdf5.MAX_BYTES, **selection: Unpack[Selection]
) -> Iterator[Scan]:
    """Open the k-space of a file for as long as the context lasts.

    A fastMRI file's slices are read when they are asked for. An ISMRMRD file is read at once: its lines come in the
    order of their measurement, which slices share.

    Args:
        source: path or seekable stream: HDF5 (fastMRI, ISMRMRD), an ISMRMRD stream, .npy, a BART pair; also gzipped or
            in a zip.
        max_bytes: largest size of the decompressed k-space, and of what an archive unpacks to.
        selection: the part that is read, see `Selection`.

    Raises:
        UnreadableKSpace: the file is damaged or of another kind (also when slices are asked for).
        UnsupportedInput: the scan is not 2-D Cartesian, or too large, or in a format that is to be converted.
        InvalidRequest: there is no such contrast, repetition, phase, set or group.
    """
    # Signatures decide in this order, because an HDF5 file may begin with a user block of any content.
    contents = unpacking.contents(source, max_bytes)
    start, size = contents.beginning()
    with unpacking.open_stream(contents.main) as opened_file:
        is_hdf5 = hdf5.is_hdf5(opened_file)
    if is_hdf5 or start.startswith(hdf5.SIGNATURE):
        with hdf5.open_file(contents.main) as file:
            yield _of_hdf5(file, selection, max_bytes)
    elif start.startswith(unpacking.NPY):
        yield _of_npy(contents, selection, max_bytes)
    elif contents.bart_header is not None:
        choice = _choice(selection)
        # A parameter that chooses nothing is an error: its sender expects another image than the one there is.
        _refuse_parameters(selection, ("set_number", "group"), "a BART pair")
        samples, notes = arrays.bart(contents.main, contents.bart_header, choice, max_bytes)
        yield fastmri.without_header(Samples(samples), oversampling=selection.get("oversampling", 1.0), notes=notes)
    elif stream.is_stream(start):
        # A stream has one sequence of acquisitions, and no groups to choose from.
        _refuse_parameters(selection, ("group",), "an ISMRMRD stream")
        yield mrd.read(*stream.read(contents.main, max_bytes), _choice(selection), max_bytes=max_bytes)
    else:
        raise foreign.refusal(start, size, contents.name)


def _choice(selection: Selection) -> dict[str, int]:
    return {
        "contrast": selection.get("contrast", 0),
        "repetition": selection.get("repetition", 0),
        "phase": selection.get("phase", 0),
        "set": selection.get("set_number", 0),
    }


def _refuse_parameters(selection: Selection, names: tuple[str, ...], kind: str) -> None:
    """Raise InvalidRequest for parameters that choose from what this kind of file does not have."""
    for name in names:
        if selection.get(name):
            raise InvalidRequest(
                f"expected no {name.removesuffix('_number')} for {kind}, which has none to choose from"
            )


def _of_npy(contents: unpacking.Contents, selection: Selection, max_bytes: int) -> Scan:
    _refuse_parameters(selection, ("contrast", "phase", "set_number", "group"), "an .npy file")
    array = arrays.npy(contents.main, max_bytes)
    samples = Samples(array, frame=selection.get("repetition", 0), max_bytes=max_bytes)
    slices, _, rows, columns = samples.shape
    mask = None
    if contents.mask is not None:
        mask = fastmri.fit_mask(arrays.npy(BytesIO(contents.mask), max_bytes), slices, rows, columns)
    notes: tuple[str, ...] = ()
    if array.ndim == 3:
        notes = (
            f"The axes {array.shape} were read as (slice, row, column) of one coil: one slice of several coils has "
            "four axes, (1, coil, row, column).",
        )
    return fastmri.without_header(samples, mask, oversampling=selection.get("oversampling", 1.0), notes=notes)


def _of_hdf5(file: h5py.File, selection: Selection, max_bytes: int) -> Scan:
    wanted = selection.get("group")
    oversampling = selection.get("oversampling", 1.0)
    # A dataset `kspace` comes first: fastMRI's files have a header of ISMRMRD beside it, but no acquisitions.
    groups = tables.acquisition_groups(datasets.groups(file, wanted)) if hdf5.member(file, "kspace") is None else []
    if groups:
        if oversampling != 1:
            raise InvalidRequest(f"expected no oversampling of a file whose header states it, got {oversampling:g}")
        return mrd.best(groups, _choice(selection), max_bytes)
    found = datasets.kspace_dataset(file, wanted)
    if found is not None:
        group, dataset, notes = found
        _refuse_parameters(selection, ("contrast", "phase", "set_number"), "a dataset of samples")
        scan = fastmri.open_dataset(
            group, dataset, repetition=selection.get("repetition", 0), oversampling=oversampling, max_bytes=max_bytes
        )
        # What was chosen in the file comes before what was recognised in the dataset.
        scan.notes = (*notes, *scan.notes)
        return scan
    if datasets.holds_images(file):
        raise UnsupportedInput(
            "ISMRMRD file of images: expected acquisitions, which the converter writes, not a reconstruction's answer"
        )
    raise UnreadableKSpace(
        "expected k-space: a dataset `kspace` (fastMRI) or a group with `data` and `xml` (ISMRMRD), got neither but "
        f"{datasets.contents(file)}"
    )
