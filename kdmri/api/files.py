"""Files to scans and series, and results to files."""

import io
import os
from pathlib import Path
from typing import BinaryIO, Unpack

import h5py

from kdmri.api.result import Result
from kdmri.data.kspace import KSpace
from kdmri.errors import InvalidRequest, UnreadableInput, UnsupportedInput
from kdmri.formats import nifti, png
from kdmri.formats.dicom import derived, folder, objects, original
from kdmri.formats.dicom import reader as dicom
from kdmri.formats.dicom.reader import DicomSeries
from kdmri.formats.kspace import fastmri, hdf5, unpacking
from kdmri.formats.kspace import reader as kspace
from kdmri.formats.kspace import stream as ismrmrd_stream
from kdmri.operations.encoding import write_files

Source = str | os.PathLike[str] | bytes | BinaryIO
"""A file or folder by its path, a file's content, or an open binary file that can seek."""
HEAD = 132
"""Bytes that tell DICOM from other formats: its prefix ends here."""
ZIP = b"PK\x03\x04"
"""First bytes of a zip archive that has members."""
BART_SUFFIXES = (".cfl", ".hdr")
"""BART's pairs: samples without a signature, which only their names and each other tell."""


def read(source: Source, **selection: Unpack[kspace.Selection]) -> KSpace | list[DicomSeries]:
    """Read k-space (HDF5, .npy, BART's .cfl, each also gzipped or zipped) or MR DICOM, told apart by content.

    Examples:
        >>> from pydicom.data import get_testdata_file
        >>> [series] = kdmri.read(get_testdata_file("MR_small.dcm"))
        >>> series.images.pixels.shape
        (1, 64, 64)

    Args:
        source: a file, a zip of a DICOM series or of one k-space file, or a folder with DICOM files at any depth.
        selection: the part of a k-space file: contrast, repetition, phase, set_number (each counted from 0), group;
            oversampling of the readout of a file without header.

    Returns:
        One scan of k-space, or the DICOM slices grouped by series, size, orientation and spacing.

    Raises:
        UnreadableInput: the bytes are in no format that kdmri reads, or are damaged.
        UnsupportedInput: the file can be read but not processed, for example a CT image or a radial trajectory.
    """
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        if path.is_dir():
            return dicom.read(folder.files(path))
        # By name, and by path: neither file of a pair has a signature, and only a path leads to the other one.
        if path.suffix in BART_SUFFIXES:
            return kspace.read(path, **selection)
        with path.open("rb") as file:
            return read(file, **selection)
    # The content decides, never the name: clients, archives and scanners name files as they like.
    stream = io.BytesIO(source) if isinstance(source, bytes) else source
    head = stream.read(HEAD)
    stream.seek(0)
    # A protocol stream first: its first bytes are those that DICOM without a preamble may begin with.
    if not ismrmrd_stream.is_stream(head) and dicom.looks_like_dicom(head):
        return dicom.read([stream])
    if head.startswith(ZIP) and not unpacking.holds_kspace(stream):
        return dicom.read_zip(stream)
    # HDF5 is looked for last, because its signature may lie anywhere after a user block.
    packed = head.startswith((ZIP, unpacking.GZIP, unpacking.NPY))
    if packed or ismrmrd_stream.is_stream(head) or hdf5.is_hdf5(stream):
        return kspace.read(stream, **selection)
    raise UnreadableInput("expected k-space in HDF5 or an MR DICOM file, got something else")


def save(result: Result | KSpace, target: str | os.PathLike[str]) -> None:
    """Write images or k-space in the format that the target's name ends in.

    `.nii.gz` is NIfTI, `.png` a preview, `.dcm` one DICOM object, a name without a suffix a folder of DICOM objects
    and `.h5` HDF5: reconstructed images as the dataset `reconstruction`, k-space in fastMRI's layout.

    Examples:
        >>> import tempfile
        >>> from pydicom.data import get_testdata_file
        >>> result = kdmri.super_resolve(kdmri.read(get_testdata_file("MR_small.dcm")))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     kdmri.save(result, f"{folder}/finer.dcm")
        ...     [series] = kdmri.read(f"{folder}/finer.dcm")
        >>> series.images.pixels.shape
        (1, 128, 128)

    Raises:
        InvalidRequest: the name ends in something else, or the format does not hold these images.
        UnsupportedInput: the format does not hold the images' geometry or number.
    """
    path = Path(target)
    name = path.name.lower()
    if isinstance(result, KSpace):
        if not name.endswith(".h5"):
            raise InvalidRequest(f"expected a file name that ends in .h5 for k-space, got {path.suffix or 'no suffix'}")
        fastmri.write(path, result)
    elif name.endswith(".nii.gz"):
        path.write_bytes(nifti.to_bytes(result.stack))
    elif name.endswith(".png"):
        headers = [header for series in result.series for header in series.headers]
        # The headers' window makes the preview look as a viewer shows the source.
        path.write_bytes(png.to_bytes(result.stack, headers))
    elif name.endswith(".h5") and not result.series:
        # The name of the dataset is that of fastMRI's submissions, so that its evaluation reads the file.
        with h5py.File(path, "w") as file:
            file.create_dataset("reconstruction", data=result.pixels)
            file.attrs["model"] = result.model.reference
    elif name.endswith(".dcm") or not path.suffix:
        _save_dicom(result, path)
    else:
        # HDF5 has no place for what a DICOM header says of a patient, so a series is not offered in it.
        offered = ".dcm, .nii.gz, .png" + ("" if result.series else ", .h5")
        raise InvalidRequest(f"expected a file name that ends in {offered} or without a suffix, got {path.suffix}")


def _save_dicom(result: Result, path: Path) -> None:
    if isinstance(result.source, tuple):
        pixels = [images.pixels for images in result.images]
        datasets = derived.derive(result.source, pixels, scale=result.scale, model=result.model.reference)
    else:
        scan = result.source
        datasets = original.create(
            result.stack,
            model=result.model.reference,
            patient_and_study=scan.patient_and_study,
            acceleration=scan.acceleration,
        )
    if path.suffix and len(datasets) > 1:
        raise UnsupportedInput(
            f"expected one image for a .dcm file, got {len(datasets)}: name a folder, without suffix"
        )
    # write_files numbers several files itself, but takes the target for the file if there is one.
    if not path.suffix:
        path.mkdir(parents=True, exist_ok=True)
        path = path if len(datasets) > 1 else path / "0001.dcm"
    write_files([objects.to_bytes(dataset) for dataset in datasets], path)
