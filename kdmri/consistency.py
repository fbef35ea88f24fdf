"""Data consistency, the step that keeps a network from changing what was measured. The one TorchScript module.

Every operation here is scriptable, so that the class can be saved with a bundle and run by libtorch alone.
"""

import torch
from torch import Tensor, nn

ITERATIONS = 5
"""Conjugate-gradient iterations where there are several coils. On 16-coil raw data at 4x, from 20.4 dB zero-filled, a
teacher reaches 20.8 dB with 1, 22.5 with 3, 23.5 with 5, 23.7 with 8; more fit the noise (docs/decisions/0003)."""


def prepared(coil_images: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """A measurement as DataConsistency takes it: in the FFT's own order, so that no step has to shift anything.

    Args:
        coil_images: complex (batch, coil, row, column), ifft2c of the k-space measured.
        mask: real (batch or 1, 1, row, column), centred, 1 where measured.

    Returns samples and mask reordered, the samples rephased to match transforms of images that are not shifted. Where
    whole lines were measured, the transform along them cancels out of A^H A: then only columns are transformed, and
    the mask has one row.
    """
    if bool((mask == mask[..., :1, :]).all()):
        return torch.fft.fft(coil_images, norm="ortho"), torch.fft.ifftshift(mask[..., :1, :], dim=-1)
    return torch.fft.fft2(coil_images, norm="ortho"), torch.fft.ifftshift(mask, dim=(-2, -1))


class DataConsistency(nn.Module):
    """x <- x + step * d, where d brings A x closest to y, A = M F S (KD-MRI eq. 1; Schlemper et al. 2017).

    With one coil A^H A is a projection and d = A^H (y - A x): with step = 1 the measured samples are replaced exactly.
    With several coils d solves A^H A d = A^H (y - A x) by a few conjugate-gradient iterations from zero (Aggarwal et
    al. 2019, MoDL), whose first direction is the same gradient; stopping early keeps d out of the noise.
    """

    def forward(self, image: Tensor, measured: Tensor, mask: Tensor, sensitivities: Tensor, step: Tensor) -> Tensor:
        """One step towards the measurement.

        Args:
            image: complex (batch, row, column).
            measured, mask: of `prepared`.
            sensitivities: complex (batch or 1, coil, row, column) with sum |S|^2 = 1; ones for one coil.
            step: real scalar, lambda.
        """
        gradient = adjoint(mask * (measured - encode(image, mask, sensitivities)), mask, sensitivities)
        if measured.shape[1] == 1:
            return image + step * gradient
        return image + step * _solve(gradient, mask, sensitivities)


def _axes(mask: Tensor) -> list[int]:
    """The axes to transform: rows too where the mask varies along them."""
    return [-1] if mask.shape[-2] == 1 else [-2, -1]


def encode(image: Tensor, mask: Tensor, sensitivities: Tensor) -> Tensor:
    """F S x: every sample, measured or not."""
    return torch.fft.fftn(sensitivities * image.unsqueeze(1), dim=_axes(mask), norm="ortho")


def adjoint(kspace: Tensor, mask: Tensor, sensitivities: Tensor) -> Tensor:
    """S^H F^H y."""
    coil_images = torch.fft.ifftn(kspace, dim=_axes(mask), norm="ortho")
    return (sensitivities.conj() * coil_images).sum(dim=1)


def _solve(gradient: Tensor, mask: Tensor, sensitivities: Tensor, iterations: int = ITERATIONS) -> Tensor:
    """Conjugate gradients for A^H A d = gradient, from d = 0, every image of the batch for itself."""
    solution = torch.zeros_like(gradient)
    residual, direction = gradient, gradient
    power = _power(residual)
    for _ in range(iterations):
        image = adjoint(mask * encode(direction, mask, sensitivities), mask, sensitivities)
        # |A p|^2; the floor lets an image that agrees already with its measurement stay as it is.
        curvature = (direction.conj() * image).real.sum(dim=[-2, -1], keepdim=True).clamp(min=1e-20)
        length = power / curvature
        solution = solution + length * direction
        residual = residual - length * image
        remaining = _power(residual)
        direction = residual + remaining / power.clamp(min=1e-20) * direction
        power = remaining
    return solution


def _power(image: Tensor) -> Tensor:
    """|x|^2 of every image."""
    return torch.view_as_real(image).square().sum(dim=[-3, -2, -1]).view(-1, 1, 1)
