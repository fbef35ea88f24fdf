"""Band-limited change of resolution that keeps the field of view.

A grid `scale` times finer over the same field of view has its first pixel centre (new - old spacing)/2 nearer to the
corner, so that k-space gets a sub-pixel phase ramp together with the zero padding or the crop (the Fourier shift
theorem). For an even size the Nyquist sample stands at both ends of the finer spectrum, half each: real images stay
real, and `downsample(upsample(x)) == x` holds exactly.
"""

import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor


def _resize_axis(image: Float[Tensor, "*batch n"], new: int, reach: float) -> Float[Tensor, "*batch m"]:
    """Resample the last axis, band-limited, over the same field of view.

    Args:
        image: real values at n points.
        new: number of points of the result, m.
        reach: (new spacing - old spacing) over the old spacing; twice the shift of the first point, in old spacings.

    Returns:
        Values at m points.
    """
    old = image.shape[-1]
    kept = min(old, new)
    # norm="forward" divides by n and not by its root: a constant image keeps its value on a grid of any size.
    spectrum = torch.fft.rfft(image, norm="forward")[..., : kept // 2 + 1]
    frequency = torch.arange(kept // 2 + 1, device=image.device)
    # The Fourier shift theorem: a shift by reach / 2 spacings is a phase of pi * reach * frequency / n.
    ramp = torch.polar(
        torch.ones_like(frequency, dtype=image.dtype), torch.pi * reach * frequency.to(image.dtype) / old
    )
    spectrum = spectrum * ramp
    if kept % 2 == 0 and new != old:
        # irfft counts the Nyquist bin of a finer grid twice (it and its mirror), rfft of a finer grid holds half of it.
        spectrum[..., -1] = spectrum[..., -1] / 2 if new > old else 2 * spectrum[..., -1].real.to(spectrum.dtype)
    return torch.fft.irfft(spectrum, n=new, norm="forward")


def upsample(image: Float[Tensor, "*batch row column"], scale: int) -> Float[Tensor, "*batch R C"]:
    """Interpolate by sinc to a grid `scale` times finer over the same field of view."""
    reach = 1 / scale - 1
    columns = _resize_axis(image, image.shape[-1] * scale, reach)
    return _resize_axis(columns.mT, image.shape[-2] * scale, reach).mT


def downsample(image: Float[Tensor, "*batch R C"], scale: int) -> Float[Tensor, "*batch row column"]:
    """Truncate k-space to a grid `scale` times coarser over the same field of view, as a scanner would measure it.

    Raises:
        ValueError: `scale` does not divide both sizes.
    """
    rows, columns = image.shape[-2:]
    if rows % scale or columns % scale:
        raise ValueError(f"expected rows and columns divisible by {scale}, got {rows} x {columns}")
    reach = scale - 1
    narrow = _resize_axis(image, columns // scale, reach)
    return _resize_axis(narrow.mT, rows // scale, reach).mT


def measured_band(shape: tuple[int, int], scale: int) -> Bool[Tensor, "R C"]:
    """Return the samples of the finer grid's centred k-space that an image of `shape` measured.

    Args:
        shape: rows and columns of the coarse image.
        scale: factor by which the grid is finer.

    Returns:
        True where the coarse image has the frequency; both ends of its Nyquist frequency belong to it.
    """

    def band(n: int) -> Bool[Tensor, " N"]:
        frequency = torch.arange(n * scale) - n * scale // 2
        return 2 * frequency.abs() <= n

    return band(shape[0])[:, None] & band(shape[1])


def as_complex(image: Float[Tensor, "*batch row column"]) -> Complex[Tensor, "*batch row column"]:
    """Return a real image as a complex one with zero imaginary part."""
    return torch.complex(image, torch.zeros_like(image))
