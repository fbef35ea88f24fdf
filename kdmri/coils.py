"""Receive coils: compression to few virtual ones, sensitivities from the calibration region, expand and combine."""

import torch
from jaxtyping import Bool, Complex
from numpy import ndarray
from torch import Tensor
from torch.nn.functional import avg_pool2d

from kdmri.fourier import ifft2c

Image = Complex[Tensor, "batch row column"]
CoilImages = Complex[Tensor, "batch coil row column"]


def expand(image: Image, sensitivities: CoilImages) -> CoilImages:
    """S: what each coil sees of an image."""
    return sensitivities * image.unsqueeze(1)


def combine(coil_images: CoilImages, sensitivities: CoilImages) -> Image:
    """S^H, the adjoint of `expand`; with sum |S|^2 = 1 also its least-squares inverse."""
    return (sensitivities.conj() * coil_images).sum(dim=1)


def compression(
    kspace: Complex[Tensor, "slice coil row column"], *, energy: float = 0.995, at_most: int | None = None
) -> Complex[Tensor, "virtual coil"]:
    """Orthonormal rows that keep the given share of the samples' energy in as few virtual coils as possible.

    Principal components of the samples over all slices (Buehrer et al. 2007). Raises ValueError unless 0 < energy <= 1.
    """
    if not 0 < energy <= 1:
        raise ValueError(f"expected a share of energy in (0, 1], got {energy}")
    samples = kspace.transpose(0, 1).flatten(1)
    values, vectors = torch.linalg.eigh(samples @ samples.mH)
    values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
    kept = int((values.cumsum(0) < energy * values.sum()).sum()) + 1
    return vectors[:, : min(kept, at_most or kept, kspace.shape[1])].mH


def compress(kspace: CoilImages, virtual: Complex[Tensor, "virtual coil"]) -> CoilImages:
    """Samples of the virtual coils that `compression` found."""
    return torch.einsum("vc,bcij->bvij", virtual, kspace)


def sensitivities(
    kspace: CoilImages, region: tuple[slice, slice], *, kernel: int = 5, iterations: int = 8
) -> CoilImages:
    """Sensitivities from the fully sampled centre of k-space, sum |S|^2 = 1, phase relative to all coils.

    Low-resolution coil images from the tapered centre; at each pixel the dominant eigenvector of their covariance over
    a `kernel` x `kernel` neighbourhood (Walsh et al. 2000), by power iteration from the coil images themselves.

    Args:
        kspace: centred; only the samples in `region` are read.
        region: rows and columns of the fully sampled centre, see `sampling.calibration_region`.
    """
    coils = kspace.shape[1]
    if coils == 1:
        return torch.ones_like(kspace)
    centre = torch.zeros_like(kspace)
    centre[..., region[0], region[1]] = kspace[..., region[0], region[1]] * _taper(region, kspace.device)
    images = ifft2c(centre)
    # Products of samples follow: bring them to about 1, or small units underflow.
    images = images / images.abs().amax().clamp(min=torch.finfo(torch.float32).tiny)
    covariance = (images.unsqueeze(2) * images.conj().unsqueeze(1)).flatten(1, 2)
    covariance = torch.complex(_smooth(covariance.real, kernel), _smooth(covariance.imag, kernel))
    covariance = covariance.unflatten(1, (coils, coils))
    vector = _unit(images)
    for _ in range(iterations):
        vector = _unit(torch.einsum("bcdij,bdij->bcij", covariance, vector))
    # The eigenvector's phase is arbitrary: make the sum of virtual coils real, as smooth as the images' own phase.
    reference = (vector.conj() * _principal(images)).sum(dim=1, keepdim=True)
    return vector * torch.exp(1j * reference.angle())


def _principal(images: CoilImages) -> Complex[Tensor, "1 coil 1 1"]:
    """The coil combination with the most energy: a phase reference without the zeros that any one coil has."""
    return compression(images, at_most=1).conj()[0][None, :, None, None]


def _unit(images: CoilImages) -> CoilImages:
    norm = torch.linalg.vector_norm(images, dim=1, keepdim=True)
    coils = images.shape[1]
    return torch.where(norm > 0, images / norm.clamp(min=torch.finfo(norm.dtype).tiny), coils**-0.5)


def _smooth(planes: Tensor, kernel: int) -> Tensor:
    return avg_pool2d(planes, kernel, stride=1, padding=kernel // 2, count_include_pad=False)


def _taper(region: tuple[slice, slice], device: torch.device) -> Tensor:
    """A Hann window over the calibration region, against Gibbs ringing of the low-resolution images."""

    def window(extent: slice) -> Tensor:
        return torch.hann_window(extent.stop - extent.start + 2, periodic=False, device=device)[1:-1]

    return window(region[0])[:, None] * window(region[1])


def calibrated(mask: Bool[ndarray, "row column"], region: tuple[slice, slice]) -> bool:
    """Whether the fully sampled centre is wide enough (4 samples each way) to estimate sensitivities from."""
    return all(extent.stop - extent.start >= min(4, size) for extent, size in zip(region, mask.shape, strict=True))
