"""Data consistency, the step that keeps a network from changing what was measured. The one TorchScript module.

Every operation here is scriptable, so that the class can be saved with a bundle and run by libtorch alone.
"""

import torch
from torch import Tensor, nn

ITERATIONS = 5
"""Conjugate-gradient iterations where there are several coils. On 16-coil raw data at 4x, from 20.4 dB zero-filled, a
teacher reaches 20.8 dB with 1, 22.5 with 3, 23.5 with 5, 23.7 with 8; more fit the noise (docs/decisions/0003)."""


class DataConsistency(nn.Module):
    """x <- x + step * d, where d brings A x closest to y, A = M F S (KD-MRI eq. 1; Schlemper et al. 2017).

    With one coil A^H A is a projection and d = A^H (y - A x): with step = 1 the measured samples are replaced exactly.
    With several coils d solves A^H A d = A^H (y - A x) by a few conjugate-gradient iterations from zero (Aggarwal et
    al. 2019, MoDL), whose first direction is the same gradient; stopping early keeps d out of the noise.
    """

    def forward(self, image: Tensor, kspace: Tensor, mask: Tensor, sensitivities: Tensor, step: Tensor) -> Tensor:
        """One step towards the measurement.

        Args:
            image: complex (batch, row, column).
            kspace: complex (batch, coil, row, column), centred, zero where not measured.
            mask: real (batch or 1, 1, row, column), 1 where measured.
            sensitivities: complex (batch or 1, coil, row, column) with sum |S|^2 = 1; ones for one coil.
            step: real scalar, lambda.
        """
        gradient = _adjoint(kspace - _forward(image, mask, sensitivities), mask, sensitivities)
        if kspace.shape[1] == 1:
            return image + step * gradient
        return image + step * _solve(gradient, mask, sensitivities)


def _forward(image: Tensor, mask: Tensor, sensitivities: Tensor) -> Tensor:
    """A x = M F S x."""
    coil_images = torch.fft.ifftshift(sensitivities * image.unsqueeze(1), dim=[-2, -1])
    return mask * torch.fft.fftshift(torch.fft.fft2(coil_images, norm="ortho"), dim=[-2, -1])


def _adjoint(kspace: Tensor, mask: Tensor, sensitivities: Tensor) -> Tensor:
    """A^H y = S^H F^H M y."""
    shifted = torch.fft.ifftshift(mask * kspace, dim=[-2, -1])
    coil_images = torch.fft.fftshift(torch.fft.ifft2(shifted, norm="ortho"), dim=[-2, -1])
    return (sensitivities.conj() * coil_images).sum(dim=1)


def _solve(gradient: Tensor, mask: Tensor, sensitivities: Tensor, iterations: int = ITERATIONS) -> Tensor:
    """Conjugate gradients for A^H A d = gradient, from d = 0, every image of the batch for itself."""
    solution = torch.zeros_like(gradient)
    residual, direction = gradient, gradient
    power = _power(residual)
    for _ in range(iterations):
        image = _adjoint(_forward(direction, mask, sensitivities), mask, sensitivities)
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
    return image.abs().square().sum(dim=[-2, -1], keepdim=True)
