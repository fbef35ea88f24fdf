"""Random views of a slice: flips, windows of rows, and fields of view as tight as scanners set them."""

import numpy as np
import torch
from jaxtyping import Float
from kdmri_training.data.volumes import Slice
from numpy.random import Generator
from torch import Tensor
from torch.nn.functional import interpolate

from kdmri.physics.fourier import centre_crop, fft2c, ifft2c

AIR = 0.1
"""Mean of a column, as a share of the brightest one's, below which it shows no patient."""


def tight_fov(plane: Float[Tensor, "row column"], rng: Generator) -> Float[Tensor, "row closer"]:
    """Narrow the field of view to about the patient's width; what lies beyond one side is seen at the other.

    Scanners are set so, because every line of k-space costs time. The data set's volumes have wide margins of air.
    """
    profile = plane.mean(dim=0)
    (seen,) = torch.nonzero(profile > AIR * profile.max(), as_tuple=True)
    first, last = int(seen[0]), int(seen[-1]) + 1
    width = min(round((last - first) * rng.uniform(0.85, 1.15)), plane.shape[1])
    start = (first + last - width) // 2 + round(width * rng.uniform(-0.1, 0.1))
    closed = torch.zeros(plane.shape[0], width)
    return closed.index_add(1, (torch.arange(plane.shape[1]) - start) % width, plane)


def random_view(
    image: Slice, shape: tuple[int, int], rng: Generator, *, close: float = 0.0
) -> Float[Tensor, "row column"]:
    """Flip or transpose a slice at random, and keep all of its columns and a window of its rows.

    Args:
        image: the slice.
        shape: rows and columns of the view. A smaller slice is surrounded by zeros.
        rng: source of randomness.
        close: probability of a tight field of view.
    """
    plane = torch.from_numpy(image.astype(np.float32))
    if rng.random() < 0.5:
        plane = plane.mT
    flips = [axis for axis in (0, 1) if rng.random() < 0.5]
    plane = plane.flip(flips)
    if close and rng.random() < close:
        plane = tight_fov(plane, rng)
        if plane.shape[1] < shape[1]:
            size = (round(plane.shape[0] * shape[1] / plane.shape[1]), shape[1])
            plane = interpolate(plane[None, None], size, mode="bicubic")[0, 0].clamp(min=0)
    rows, columns = plane.shape
    if columns > shape[1]:
        # The phase-encode axis must stay whole, or the mask would not be one of a real scan. So k-space is truncated
        # to larger pixels, as in a shorter scan; rows shrink by the same share, because anatomy must keep its shape.
        smaller = (max(shape[0], round(rows * shape[1] / columns)), shape[1])
        if smaller[0] < rows:
            spectrum = centre_crop(fft2c(plane.to(torch.complex64)), smaller)
            shrink = (smaller[0] * smaller[1] / (rows * columns)) ** 0.5
            plane = ifft2c(spectrum).abs() * shrink
    rows, columns = plane.shape
    top = int(rng.integers(max(rows - shape[0], 0) + 1))
    plane = plane[top : top + shape[0]]
    left = max(columns - shape[1], 0) // 2
    plane = plane[:, left : left + shape[1]]
    canvas = torch.zeros(shape)
    row, column = (shape[0] - plane.shape[0]) // 2, (shape[1] - plane.shape[1]) // 2
    canvas[row : row + plane.shape[0], column : column + plane.shape[1]] = plane
    return canvas
