"""Simulated scans for tests that need no data set: smooth phase, coils, lines missing."""

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from skimage.data import shepp_logan_phantom
from skimage.transform import resize

from kdmri.data.kspace import KSpace
from kdmri.physics.fourier import centre_crop, fft2c, ifft2c
from kdmri.physics.sampling import centre_lines, random_mask


def phantom(rows: int, columns: int) -> Float[ndarray, "1 row column"]:
    """The Shepp-Logan head on any grid."""
    return resize(shepp_logan_phantom(), (rows, columns), anti_aliasing=True).astype(np.float32)[None]


def maps(coils: int, rows: int, columns: int) -> torch.Tensor:
    """Smooth sensitivities with sum |S|^2 = 1: Gaussians on a ring with linear phases."""
    row, column = torch.linspace(-1, 1, rows)[:, None], torch.linspace(-1, 1, columns)
    angles = torch.arange(coils) * 2 * torch.pi / coils
    distance = (row - angles.sin()[:, None, None]) ** 2 + (column - angles.cos()[:, None, None]) ** 2
    stacked = torch.polar(torch.exp(-distance), angles[:, None, None] + 0.8 * row * angles.cos()[:, None, None])
    return stacked / torch.linalg.vector_norm(stacked, dim=0)


def scan(
    image: Float[ndarray, "slice row column"],
    *,
    coils: int = 1,
    acceleration: float = 1,
    seed: int = 0,
    noise: float = 0,
) -> KSpace:
    """K-space of magnitude images with a smooth phase, `noise` in units of the image's maximum."""
    rows, columns = image.shape[1:]
    rng = np.random.default_rng(seed)
    row, column = np.linspace(-1, 1, rows)[:, None], np.linspace(-1, 1, columns)
    complex_image = torch.from_numpy((image * np.exp(1j * (row + column**2 - row * column))).astype(np.complex64))
    sensitivities = maps(coils, rows, columns) if coils > 1 else torch.ones((1, rows, columns), dtype=torch.complex64)
    samples = fft2c(sensitivities * complex_image[:, None]).numpy()
    real, imaginary = rng.standard_normal((2, *samples.shape), dtype=np.float32)
    samples = samples + noise * image.max() * (real + 1j * imaginary)
    lines = np.ones(columns, bool)
    if acceleration > 1:
        lines = random_mask(columns, acceleration, centre_lines(columns, acceleration), rng)
    return KSpace(samples * lines, np.broadcast_to(lines, (1, rows, columns)), (rows, columns))


def rss(measured: KSpace) -> ndarray:
    """The plain image: inverse Fourier transform, root of the sum of squares over coils, cropped."""
    coils = centre_crop(ifft2c(torch.from_numpy(measured.samples)), measured.image_shape)
    return torch.linalg.vector_norm(coils, dim=1).numpy()
