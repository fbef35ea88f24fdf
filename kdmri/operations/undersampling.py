"""Fully sampled data to undersampled k-space, for demonstrations, tests and studies."""

from pathlib import Path

import h5py
import numpy as np
import torch

from kdmri.data.images import Images
from kdmri.data.kspace import KSpace
from kdmri.errors import UnsupportedInput
from kdmri.formats import nifti
from kdmri.formats.dicom import reader as dicom
from kdmri.formats.kspace import reader as kspace
from kdmri.physics.fourier import fft2c
from kdmri.physics.sampling import MASKS, centre_lines


def read_full(source: Path) -> KSpace:
    """K-space from an HDF5 file, or that of the magnitude image in a DICOM or NIfTI file (zero phase, one coil)."""
    if h5py.is_hdf5(source):
        return kspace.read(source)
    if source.name.endswith((".nii", ".nii.gz")):
        return of_images(nifti.read(source))
    return of_images(dicom.read([source])[0].images)


def of_images(images: Images) -> KSpace:
    """The k-space of magnitude images: one coil, fully sampled."""
    samples = fft2c(torch.from_numpy(images.pixels).to(torch.complex64)).unsqueeze(1).numpy()
    rows, columns = images.pixels.shape[1:]
    return KSpace(samples, np.ones((1, rows, columns), dtype=bool), (rows, columns), images.geometry)


def undersampled(full: KSpace, acceleration: float, *, mask: str = "random", seed: int = 0) -> KSpace:
    """`full` with the lines of one of `sampling.MASKS` kept in every slice; 8% central lines at 4x, 4% at 8x.

    What it says of patient and study is left out, and a calibration scan of its own. Raises UnsupportedInput where
    lines are missing already, since acceleration would then mean something else.
    """
    if not full.mask.all():
        raise UnsupportedInput(f"expected fully sampled k-space, got acceleration {full.acceleration:.2f}")
    columns = full.samples.shape[-1]
    rng = np.random.default_rng(seed)
    lines = MASKS[mask](columns, acceleration, centre_lines(columns, acceleration), rng)
    pattern = np.broadcast_to(lines, (1, *full.samples.shape[-2:]))
    return KSpace(full.samples * lines, pattern, full.image_shape, full.geometry)
