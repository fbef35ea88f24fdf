"""Random fields over an image, as scanners add them: phase, coil sensitivities, shading, noise."""

import numpy as np
import torch
from jaxtyping import Complex, Float
from numpy.random import Generator
from torch import Tensor
from torch.nn.functional import interpolate

RIPPLES = 16
"""Knots along each axis of the field by which the phase departs from a smooth one."""


def complex_normal(shape: tuple[int, ...], rng: Generator) -> Complex[Tensor, "*shape"]:
    """Draw complex white noise of standard deviation 1 in the real part and in the imaginary part."""
    real, imaginary = rng.standard_normal((2, *shape), dtype=np.float32)
    return torch.complex(torch.from_numpy(real), torch.from_numpy(imaginary))


def _grid(shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    row, column = (torch.linspace(-1, 1, n) for n in shape)
    return row[:, None], column[None, :]


def smooth_field(shape: tuple[int, int], knots: int, rng: Generator) -> Float[Tensor, "row column"]:
    """Draw a random field of standard deviation about 1: `knots` numbers along each axis, interpolated.

    Args:
        shape: rows and columns of the field.
        knots: independent numbers along each axis.
        rng: source of randomness.
    """
    coarse = torch.from_numpy(rng.standard_normal((1, 1, knots, knots), dtype=np.float32))
    return interpolate(coarse, shape, mode="bicubic")[0, 0]


def simulate_phase(
    shape: tuple[int, int], rng: Generator, *, ripple: float = 0.0, steepness: float = 1.0
) -> Complex[Tensor, "row column"]:
    """exp(i phi) with phi a random polynomial of order 3, as off-resonance and coils make it, and a finer field on top.

    Args:
        shape: rows and columns of the field.
        rng: source of randomness.
        ripple: the finer field's standard deviation in radians.
        steepness: factor on the polynomial's coefficients. At 1 most of the field of view keeps its energy within two
            lines of k-space's centre; gradient echoes near the sinuses lie ten lines off, where few are measured.
    """
    row, column = _grid(shape)
    phi = torch.zeros(shape)
    for i in range(4):
        for j in range(4 - i):
            phi = phi + float(rng.normal(0, 1.2 * steepness if i + j else np.pi)) * row**i * column**j
    if ripple:
        phi = phi + ripple * smooth_field(shape, RIPPLES, rng)
    return torch.polar(torch.ones(shape), phi)


def simulate_sensitivities(shape: tuple[int, int], coils: int, rng: Generator) -> Complex[Tensor, "coil row column"]:
    """Draw sensitivities of coils on a ring around the object, normalised to sum |S|^2 = 1.

    Args:
        shape: rows and columns of the maps.
        coils: number of coils; one coil has the sensitivity 1 everywhere.
        rng: source of randomness.

    Returns:
        Gaussian falls-off with linear phases.
    """
    if coils == 1:
        return torch.ones((1, *shape), dtype=torch.complex64)
    row, column = _grid(shape)
    angles = rng.uniform(0, 2 * np.pi) + 2 * np.pi * np.arange(coils) / coils + rng.normal(0, 0.2, coils)
    maps = []
    for angle in angles:
        radius, width = rng.uniform(0.9, 1.4), rng.uniform(0.6, 1.1)
        distance = (row - radius * np.sin(angle)) ** 2 + (column - radius * np.cos(angle)) ** 2
        slope, offset = rng.normal(0, 1, 2), rng.uniform(0, 2 * np.pi)
        maps.append(torch.polar(torch.exp(-distance / (2 * width**2)), offset + slope[0] * row + slope[1] * column))
    stacked = torch.stack(maps).to(torch.complex64)
    return stacked / torch.linalg.vector_norm(stacked, dim=0)
