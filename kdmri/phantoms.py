"""Simulated scans that tests, benchmarks and training share: a head, coils around it, lines missing, noise."""

import numpy as np
import torch
from jaxtyping import Complex, Float32
from numpy import ndarray
from skimage.data import shepp_logan_phantom
from skimage.transform import resize
from torch import Tensor

from kdmri.data.kspace import KSpace
from kdmri.physics.acquisition import Acquisition
from kdmri.physics.fourier import ifft2c
from kdmri.physics.sampling import centre_lines, random_mask


def phantom(rows: int, columns: int) -> Float32[ndarray, "1 row column"]:
    """Return the Shepp-Logan head, whose maximum is about 1, on a grid of any size."""
    return resize(shepp_logan_phantom(), (rows, columns), anti_aliasing=True).astype(np.float32)[None]


def smooth_phase(rows: int, columns: int) -> Complex[Tensor, "row column"]:
    """Return a phase of up to one radian that varies slowly over the field of view, as magnetic fields cause."""
    row, column = np.linspace(-1, 1, rows)[:, None], np.linspace(-1, 1, columns)
    return torch.from_numpy(np.exp(1j * (row + column**2 - row * column)).astype(np.complex64))


def ring_of_coils(coils: int, rows: int, columns: int) -> Complex[Tensor, "coil row column"]:
    """Return sensitivities of coils on a ring: Gaussians with linear phases, sum |S|^2 = 1; ones for one coil.

    Args:
        coils: number of coils, at equal angles on a circle through the middles of the field of view's sides.
        rows: rows of the grid.
        columns: columns of the grid.
    """
    if coils == 1:
        return torch.ones((1, rows, columns), dtype=torch.complex64)
    row, column = torch.linspace(-1, 1, rows)[:, None], torch.linspace(-1, 1, columns)
    angles = torch.arange(coils) * 2 * torch.pi / coils
    distance = (row - angles.sin()[:, None, None]) ** 2 + (column - angles.cos()[:, None, None]) ** 2
    # Real coils differ in phase as well as in magnitude: each gets a constant phase and a gradient along the rows.
    maps = torch.polar(torch.exp(-distance), angles[:, None, None] + 0.8 * row * angles.cos()[:, None, None])
    return maps / torch.linalg.vector_norm(maps, dim=0)


def random_coils(coils: int, rows: int, columns: int, rng: np.random.Generator) -> Complex[Tensor, "coil row column"]:
    """Draw smooth sensitivities, waves of at most one period, with sum |S|^2 = 1; ones for one coil.

    Args:
        coils: number of coils.
        rows: rows of the grid, at least 3.
        columns: columns of the grid, at least 3.
        rng: source of the random coefficients.
    """
    if coils == 1:
        return torch.ones((1, rows, columns), dtype=torch.complex64)
    waves = torch.zeros((coils, rows, columns), dtype=torch.complex64)
    middle = waves[:, rows // 2 - 1 : rows // 2 + 2, columns // 2 - 1 : columns // 2 + 2]
    middle.copy_(torch.from_numpy(complex_noise((coils, 3, 3), rng)))
    maps = ifft2c(waves)
    return maps / torch.linalg.vector_norm(maps, dim=0)


def complex_noise(shape: tuple[int, ...], rng: np.random.Generator) -> Complex[ndarray, "*shape"]:
    """Draw complex white noise with a standard deviation of 1 in both parts."""
    real, imaginary = rng.standard_normal((2, *shape), dtype=np.float32)
    noise: ndarray = real + 1j * imaginary
    return noise


def scan(
    images: Float32[ndarray, "slice row column"],
    *,
    coils: int = 1,
    acceleration: float = 1,
    seed: int = 0,
    noise: float = 0,
) -> KSpace:
    """Simulate a scan of magnitude images with a smooth phase, seen by a ring of coils.

    Args:
        images: magnitudes of the slices.
        coils: number of coils.
        acceleration: random lines are left out until one in so many remains; 1 leaves out none.
        seed: seed of lines and noise.
        noise: standard deviation in both parts of a sample, in units of the maximum of the images.
    """
    rows, columns = images.shape[1:]
    rng = np.random.default_rng(seed)
    image = torch.from_numpy(images) * smooth_phase(rows, columns)
    full = Acquisition.simulate(image, torch.ones(1, 1, rows, columns), ring_of_coils(coils, rows, columns)[None])
    # Noise is added to all samples and the mask applied after it, so that one seed gives the same noise at any
    # acceleration.
    samples = full.samples.numpy() + noise * images.max() * complex_noise(tuple(full.samples.shape), rng)
    lines = np.ones(columns, bool)
    if acceleration > 1:
        lines = random_mask(columns, acceleration, centre_lines(columns, acceleration), rng)
    return KSpace(samples * lines, np.broadcast_to(lines, (1, rows, columns)), (rows, columns))


def benchmark_scan(coils: int, rows: int, columns: int, *, acceleration: float = 4) -> KSpace:
    """Simulate one slice of the head as benchmarks measure it: random lines, random smooth coils, a little noise.

    Args:
        coils: number of coils.
        rows: rows of the grid.
        columns: columns of the grid; of these, one in `acceleration` is measured.
        acceleration: columns over measured columns.

    Returns:
        K-space with noise of a standard deviation of 0.001 in both parts of a sample; the head's maximum is about 1.
    """
    rng = np.random.default_rng(0)
    lines = random_mask(columns, acceleration, centre_lines(columns, acceleration), rng)
    image = torch.from_numpy(phantom(rows, columns)).to(torch.complex64)
    maps = random_coils(coils, rows, columns, rng)[None]
    noise = torch.from_numpy(1e-3 * complex_noise((1, coils, rows, columns), rng))
    measured = Acquisition.simulate(image, torch.from_numpy(lines).float().expand(1, 1, rows, columns), maps, noise)
    return KSpace(measured.samples.numpy(), np.broadcast_to(lines, (1, rows, columns)), (rows, columns))
