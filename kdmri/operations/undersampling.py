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
    """Read k-space from HDF5, or simulate that of the images in a DICOM or NIfTI file (zero phase, one coil).

    Raises:
        UnreadableInput: the file is in no format that kdmri reads, or is damaged.
        UnsupportedInput: the file can be read but not processed, for example a CT image.
    """
    if h5py.is_hdf5(source):
        return kspace.read(source)
    if source.name.endswith((".nii", ".nii.gz")):
        return of_images(nifti.read(source))
    return of_images(dicom.read([source])[0].images)


def of_images(images: Images) -> KSpace:
    """Simulate the k-space of magnitude images: one coil, fully sampled, zero phase."""
    samples = fft2c(torch.from_numpy(images.pixels).to(torch.complex64)).unsqueeze(1).numpy()
    rows, columns = images.pixels.shape[1:]
    return KSpace(samples, np.ones((1, rows, columns), dtype=bool), (rows, columns), images.geometry)


def keep_lines(full: KSpace, acceleration: float, *, mask: str = "random", seed: int = 0) -> KSpace:
    """Keep the same lines in every slice of fully sampled k-space and set all others to zero.

    Args:
        full: fully sampled k-space.
        acceleration: columns over kept columns; the centre has 8% of the columns at 4x, 4% at 8x.
        mask: name of the pattern, a key of `sampling.MASKS`.
        seed: seed of the pattern's random choices.

    Returns:
        K-space of the same shape, without patient data and without a separate calibration scan.

    Raises:
        UnsupportedInput: lines are missing already, so that acceleration would mean something else.
    """
    if not full.mask.all():
        raise UnsupportedInput(f"expected fully sampled k-space, got acceleration {full.acceleration:.2f}")
    columns = full.samples.shape[-1]
    rng = np.random.default_rng(seed)
    lines = MASKS[mask](columns, acceleration, centre_lines(columns, acceleration), rng)
    # One mask for all slices, as fastMRI's own undersampling has it: a volume is measured with one pattern.
    pattern = np.broadcast_to(lines, (1, *full.samples.shape[-2:]))
    return KSpace(full.samples * lines, pattern, full.image_shape, full.geometry)
