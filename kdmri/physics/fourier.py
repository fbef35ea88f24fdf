"""The one Fourier convention: centred and orthonormal over (..., row, column), as in fastMRI and `bart fft -u -i`."""

import torch
from jaxtyping import Complex, Shaped
from torch import Tensor

# Rows and columns are always the last axes, so that slices and coils may stand before them in any number.
AXES = (-2, -1)


def fft2c(image: Complex[Tensor, "*batch row column"]) -> Complex[Tensor, "*batch row column"]:
    """Image to k-space, orthonormal, zero frequency at n // 2."""
    return torch.fft.fftshift(torch.fft.fft2(torch.fft.ifftshift(image, dim=AXES), norm="ortho"), dim=AXES)


def ifft2c(kspace: Complex[Tensor, "*batch row column"]) -> Complex[Tensor, "*batch row column"]:
    """K-space to image: the adjoint, and so the inverse, of `fft2c`."""
    return torch.fft.fftshift(torch.fft.ifft2(torch.fft.ifftshift(kspace, dim=AXES), norm="ortho"), dim=AXES)


def fftc(image: Complex[Tensor, "*shape"], axis: int) -> Complex[Tensor, "*shape"]:
    """Image to k-space along one axis, in the convention of `fft2c`."""
    # ifftshift before and fftshift after: for odd sizes the two differ, and the other order would be off by a sample.
    return torch.fft.fftshift(torch.fft.fft(torch.fft.ifftshift(image, axis), dim=axis, norm="ortho"), axis)


def ifftc(kspace: Complex[Tensor, "*shape"], axis: int) -> Complex[Tensor, "*shape"]:
    """K-space to image along one axis: the adjoint, and so the inverse, of `fftc`."""
    return torch.fft.fftshift(torch.fft.ifft(torch.fft.ifftshift(kspace, axis), dim=axis, norm="ortho"), axis)


def centre_crop(array: Shaped[Tensor, "*batch row column"], shape: tuple[int, int]) -> Shaped[Tensor, "*batch r c"]:
    """Return the part of `shape` (rows, columns) around the centre n // 2.

    Raises:
        ValueError: `shape` is larger than the array.
    """
    rows, columns = array.shape[-2:]
    if shape[0] > rows or shape[1] > columns:
        raise ValueError(f"expected a crop within {rows} x {columns}, got {shape[0]} x {shape[1]}")
    top, left = rows // 2 - shape[0] // 2, columns // 2 - shape[1] // 2
    return array[..., top : top + shape[0], left : left + shape[1]]
