"""Receive coils: what each coil sees of an image (S), its adjoint, and compression to few virtual coils."""

import torch
from jaxtyping import Complex
from torch import Tensor

Image = Complex[Tensor, "batch row column"]
CoilImages = Complex[Tensor, "batch coil row column"]

ENERGY = 0.999
"""Share of the calibration samples' energy that virtual coils keep.

On 16-coil raw data at 4x and 8x this costs 0.06 to 0.15 dB against all coils, with two thirds of their number; on 32
coils and few central lines it gains 2 dB (docs/formats.md).
"""


def expand(image: Image, sensitivities: CoilImages) -> CoilImages:
    """S x: the image as each coil sees it."""
    return sensitivities * image.unsqueeze(1)


def combine(coil_images: CoilImages, sensitivities: CoilImages) -> Image:
    """S^H, the adjoint of `expand`; with sum |S|^2 = 1 also its least-squares inverse."""
    return (sensitivities.conj() * coil_images).sum(dim=1)


def compression_matrix(
    kspace: Complex[Tensor, "slice coil row column"], *, energy: float = ENERGY, coils: int | None = None
) -> Complex[Tensor, "virtual coil"]:
    """Compute the matrix that compresses coils to virtual ones: principal components (Buehrer et al. 2007).

    The calibration region alone needs fewer virtual coils than the whole of k-space: it has more signal, less noise.

    Args:
        kspace: samples over which the components are computed, of all slices together.
        energy: share of the samples' energy to keep, in as few virtual coils as possible.
        coils: number of virtual coils instead, whatever energy they keep; at most as many as there are coils.

    Returns:
        Orthonormal rows, the strongest component first.

    Raises:
        ValueError: `energy` is not in (0, 1].
    """
    if not 0 < energy <= 1:
        raise ValueError(f"expected a share of energy in (0, 1], got {energy}")
    samples = kspace.transpose(0, 1).flatten(1)
    # The Gram matrix has coil x coil elements: its eigenvectors are the left singular vectors of the samples.
    values, vectors = torch.linalg.eigh(samples @ samples.mH)
    # eigh sorts upwards, and rounding may leave small negative eigenvalues of a matrix that has none.
    values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
    # The first count whose cumulative sum reaches the share, so at least one coil even without any signal.
    count = coils or int((values.cumsum(0) < energy * values.sum()).sum()) + 1
    return vectors[:, : min(count, kspace.shape[1])].mH


def compress(kspace: CoilImages, matrix: Complex[Tensor, "virtual coil"]) -> CoilImages:
    """Compute the samples of virtual coils by the matrix of `compression_matrix`."""
    return torch.einsum("vc,bcij->bvij", matrix, kspace)
