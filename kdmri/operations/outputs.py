"""Images to files, for the command line."""

from collections.abc import Sequence
from pathlib import Path

import h5py
from pydicom import Dataset

from kdmri.data.images import Images
from kdmri.data.kspace import Scan
from kdmri.formats import nifti, png
from kdmri.formats.dicom import derived

SUFFIXES = {"h5": ".h5", "dicom": ".dcm", "nifti": ".nii.gz", "png": ".png"}


def write(images: Images, target: Path, file_format: str, *, model: str, scan: Scan) -> None:
    """Write what was made of a scan as h5, nifti, png (one file) or dicom (one file for one slice, else a folder)."""
    acceleration = scan.acceleration
    if file_format == "h5":
        with h5py.File(target, "w") as file:
            file.create_dataset("reconstruction", data=images.pixels)
            file.attrs.update(model=model, acceleration=acceleration)
    elif file_format == "nifti":
        target.write_bytes(nifti.to_bytes(images))
    elif file_format == "png":
        target.write_bytes(png.to_bytes(images))
    else:
        objects = derived.reconstructed(
            images, model=model, patient_and_study=scan.patient_and_study, acceleration=acceleration
        )
        write_dicom(objects, target)


def write_dicom(datasets: Sequence[Dataset], target: Path) -> None:
    """One object to the file `target`, several to files 0001.dcm and on in the folder `target`."""
    if len(datasets) == 1:
        target.write_bytes(derived.to_bytes(datasets[0]))
        return
    target.mkdir(parents=True, exist_ok=True)
    for number, dataset in enumerate(datasets, start=1):
        (target / f"{number:04d}.dcm").write_bytes(derived.to_bytes(dataset))
