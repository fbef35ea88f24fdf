"""ESPIRiT: coil sensitivities from the fully sampled centre of k-space (Uecker et al., MRM 2014)."""

import torch
from jaxtyping import Bool, Complex, Float
from numpy import ndarray
from torch import Tensor

from kdmri.physics.coils import CoilImages, compression_matrix
from kdmri.physics.fourier import ifft2c

GRID = 64
"""Largest number of rows and of columns that eigenvectors are computed at; they are interpolated between them.

With patches of 4 x 4 the operator is a sum of waves of up to three periods over the field of view, so that a period has
21 points or more. Against eigenvectors at every pixel, images of raw files at 4x and 8x change by 0.02 dB at most
(docs/decisions/0004).
"""
CALIBRATION_SIZE = 24
"""Largest number of calibration rows and columns: more cost time and, for maps this smooth, add nothing (BART's ecalib
uses as many)."""


def estimate_sensitivities(
    kspace: CoilImages, region: tuple[slice, slice], *, kernel: int = 4, threshold: float = 0.01, iterations: int = 15
) -> CoilImages:
    """Estimate sensitivities from the fully sampled centre of k-space: sum |S|^2 = 1, phase relative to all coils.

    ESPIRiT (Uecker et al. 2014) with one set of maps: patches of the calibration region span a signal space; its
    projector, a convolution in k-space, is a coil-by-coil matrix at each pixel, and S its dominant eigenvector.

    Args:
        kspace: centred k-space. Only the samples in `region`, and of those the 24 x 24 nearest the centre, are used.
        region: rows and columns of the fully sampled centre, see `sampling.calibration_region`.
        kernel: patch size, smaller if the region is narrow.
        threshold: share of the largest singular value below which a direction is noise. On raw data at 4x, smaller
            thresholds gain up to 0.3 dB if the calibration is clean, and let ghosts through if it is noisy; 0.03 with
            patches of 6 loses 0.4 to 0.9 dB, without a sampled centre 6 dB (docs/decisions/0004).
        iterations: steps of the power method that finds the eigenvector. It starts from low-resolution coil images,
            which are close to it.

    Returns:
        Sensitivities on the grid of `kspace`, for every slice by itself; ones for a single coil.
    """
    if kspace.shape[1] == 1:
        return torch.ones_like(kspace)
    shape = (kspace.shape[-2], kspace.shape[-1])
    rows, columns = calibration_block(region, shape)
    size = _patch(rows, kernel), _patch(columns, kernel)
    coarse = (min(shape[0], GRID), min(shape[1], GRID))
    maps = []
    # Slice by slice, because the number of directions that span the signal space differs between slices.
    for samples in kspace:
        calibration = samples[:, rows, columns]
        operator = _coil_operator(_signal_space(calibration, size, threshold), coarse)
        images = ifft2c(
            _zero_pad(calibration * _taper((rows, columns), samples.device), (rows, columns), shape, coarse)
        )
        vector = _unit(images)
        for _ in range(iterations):
            vector = _unit((operator * vector).sum(dim=1))
        # An eigenvector's phase is arbitrary. Taken relative to the strongest combination of the coils, it is as smooth
        # as the phase of the coils themselves.
        reference = (vector.conj() * _principal(images)).sum(dim=0)
        maps.append(_interpolate(vector * torch.exp(1j * reference.angle()), shape))
    return torch.stack(maps)


def _patch(extent: slice, kernel: int) -> int:
    """Return the patch size along an axis: `kernel`, or less in a narrow region, so that at least two patches fit."""
    return max(1, min(kernel, extent.stop - extent.start - 1))


def _signal_space(
    calibration: Complex[Tensor, "coil r c"], size: tuple[int, int], threshold: float
) -> Complex[Tensor, "direction coil y x"]:
    """Compute orthonormal directions that span the patches of the calibration region.

    Args:
        calibration: fully sampled k-space of one slice.
        size: rows and columns of a patch (y, x).
        threshold: share of the largest singular value below which a direction is noise.

    Returns:
        Directions, at least one; the strongest is the last, as eigh sorts them.
    """
    # unfold appends the axes of a patch: (coil, patch row, patch column, y, x); a row of the matrix is one patch.
    patches = calibration.unfold(1, size[0], 1).unfold(2, size[1], 1)
    matrix = patches.permute(1, 2, 0, 3, 4).flatten(2).flatten(0, 1)
    # The right singular vectors are the eigenvectors of the Gram matrix, which take an eighth of the SVD's time.
    powers, directions = torch.linalg.eigh(matrix.mH @ matrix)
    # Not strictly: without any signal all directions are equal, and one at least has to remain.
    return directions.mH[powers >= threshold**2 * powers[-1]].unflatten(1, (len(calibration), *size))


def _coil_operator(
    directions: Complex[Tensor, "direction coil y x"], shape: tuple[int, int]
) -> Complex[Tensor, "coil coil row column"]:
    """Compute the projector onto the signal space as a matrix at each pixel; sensitivities have eigenvalue 1."""
    size = directions.shape[-2:]
    # A product of two kernels spans twice their size: this many samples determine it everywhere.
    dense = (2 * size[0], 2 * size[1])
    transformed = torch.fft.ifft2(directions, s=dense, norm="forward")
    # A sum over directions of products in the image domain is the autocorrelation of the kernels: the lags of a
    # convolution, from 1 - size to size - 1 along each axis.
    lags = torch.fft.fft2(torch.einsum("jcyx,jdyx->cdyx", transformed, transformed.conj()), norm="forward")
    padded = torch.zeros(*lags.shape[:2], *shape, dtype=lags.dtype, device=lags.device)
    # Lags of either sign lie at the two ends of an axis, in the FFT's order, and stay there on the larger grid.
    for y in (slice(0, size[0]), slice(1 - size[0], None)) if size[0] > 1 else (slice(0, 1),):
        for x in (slice(0, size[1]), slice(1 - size[1], None)) if size[1] > 1 else (slice(0, 1),):
            padded[..., y, x] = lags[..., y, x]
    return torch.fft.fftshift(torch.fft.ifft2(padded, norm="forward"), dim=(-2, -1)) / (size[0] * size[1])


def _zero_pad(
    calibration: Complex[Tensor, "coil r c"],
    region: tuple[slice, slice],
    shape: tuple[int, int],
    coarse: tuple[int, int],
) -> Complex[Tensor, "coil row column"]:
    """Place calibration samples into zero-filled k-space of a coarser grid over the same field of view.

    Args:
        calibration: samples of the region, at most as large as `coarse`.
        region: rows and columns of the samples in k-space of `shape`.
        shape: rows and columns of the scan's k-space.
        coarse: rows and columns of the grid to fill; zero frequency is at n // 2 of both grids.
    """
    kspace = torch.zeros((len(calibration), *coarse), dtype=calibration.dtype, device=calibration.device)
    top, left = (extent.start - fine // 2 + few // 2 for extent, fine, few in zip(region, shape, coarse, strict=True))
    kspace[:, top : top + calibration.shape[1], left : left + calibration.shape[2]] = calibration
    return kspace


def _interpolate(maps: Complex[Tensor, "coil r c"], shape: tuple[int, int]) -> Complex[Tensor, "coil row column"]:
    """Interpolate unit vectors to a grid of `shape` by periodic cubic convolution (Keys 1981)."""
    if maps.shape[1:] == shape:
        return maps
    # Interpolation shortens vectors between grid points of unlike phase, so that they are scaled to unit length again.
    down, along = (_cubic(fine, few, maps.device) for fine, few in zip(shape, maps.shape[1:], strict=True))
    wide = maps @ along.to(maps.dtype).T
    # Real and imaginary parts lie side by side: one matrix product with real weights gives them already in order.
    planes = (down @ torch.view_as_real(wide).flatten(-2)).unflatten(-1, (shape[1], 2))
    power = planes.square().sum(dim=0).sum(dim=-1, keepdim=True)
    return torch.view_as_complex(planes * power.clamp(min=1e-12).rsqrt())


def _cubic(fine: int, few: int, device: torch.device) -> Float[Tensor, "fine few"]:
    """Compute weights of cubic convolution (Keys 1981, a = -1/2) on a periodic grid; the centres n // 2 coincide.

    Args:
        fine: points to interpolate at.
        few: points to interpolate between, over the same field of view.
        device: device of the result.

    Returns:
        A matrix with four weights in every row, whose sum is 1.
    """
    place = (torch.arange(fine, device=device) - fine // 2) * (few / fine) + few // 2
    before = place.floor()
    t = place - before
    # The weights of the points before, at, after and two after the place, t of a spacing beyond the second of them.
    taps = [(-t + 2 * t**2 - t**3) / 2, 1 - (5 * t**2 - 3 * t**3) / 2]
    taps += [(t + 4 * t**2 - 3 * t**3) / 2, (t**3 - t**2) / 2]
    columns = (before.long()[:, None] + torch.arange(-1, 3, device=device)) % few
    return torch.zeros(fine, few, device=device).scatter_add_(1, columns, torch.stack(taps, dim=1))


def _principal(images: Complex[Tensor, "coil row column"]) -> Complex[Tensor, "coil 1 1"]:
    """Return the coil combination with the most energy: a phase reference without the zeros of any one coil."""
    return compression_matrix(images[None], coils=1).conj()[0][:, None, None]


def _unit(images: Complex[Tensor, "coil row column"]) -> Complex[Tensor, "coil row column"]:
    """Scale vectors over the coils to unit length; a zero vector becomes one with equal parts of all coils."""
    # Reducing complex numbers along the first axis takes ten times as long as reducing pairs of real ones.
    parts = torch.view_as_real(images)
    # Division by the largest part first: squares of values below 1e-19 would vanish, and above 1e19 overflow.
    largest = parts.abs().amax(dim=(0, -1))[..., None]
    scaled = parts / torch.where(largest > 0, largest, 1)
    power = scaled.square().sum(dim=(0, -1))[..., None]
    unit = torch.view_as_complex(scaled * power.clamp(min=torch.finfo(power.dtype).tiny).rsqrt())
    return torch.where(power[..., 0] > 0, unit, len(images) ** -0.5)


def calibration_block(region: tuple[slice, slice], shape: tuple[int, int]) -> tuple[slice, slice]:
    """Return the part of a region, at most 24 x 24 samples, that is nearest the centre of k-space of this shape."""
    rows, columns = (_nearest(extent, length // 2) for extent, length in zip(region, shape, strict=True))
    return rows, columns


def _nearest(extent: slice, centre: int) -> slice:
    """Return at most CALIBRATION_SIZE samples of an extent, those nearest the centre."""
    size = min(CALIBRATION_SIZE, extent.stop - extent.start)
    # A scan with partial Fourier may have all of its region on one side of the centre.
    start = min(max(centre - size // 2, extent.start), extent.stop - size)
    return slice(start, start + size)


def _taper(region: tuple[slice, slice], device: torch.device) -> Tensor:
    """Compute a Hann window over the calibration region, against Gibbs ringing of the low-resolution images."""

    def window(extent: slice) -> Tensor:
        # The window's end points are zero: two more points than samples, so that no sample is lost to them.
        return torch.hann_window(extent.stop - extent.start + 2, periodic=False, device=device)[1:-1]

    return window(region[0])[:, None] * window(region[1])


def can_calibrate(mask: Bool[ndarray, "row column"], region: tuple[slice, slice]) -> bool:
    """Check that the fully sampled centre is wide enough (4 samples each way) to estimate sensitivities from."""
    return all(extent.stop - extent.start >= min(4, size) for extent, size in zip(region, mask.shape, strict=True))
