"""The plain image of a scan, for tests that compare with it."""

import torch
from numpy import ndarray

from kdmri.data.kspace import KSpace
from kdmri.physics.fourier import centre_crop, ifft2c


def rss(measured: KSpace) -> ndarray:
    """Return the root of the sum of squares over coils of the inverse Fourier transform, cropped."""
    coils = centre_crop(ifft2c(torch.from_numpy(measured.samples)), measured.image_shape)
    return torch.linalg.vector_norm(coils, dim=1).numpy()
