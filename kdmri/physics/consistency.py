"""Data consistency, the step that keeps a network from changing what was measured. The one TorchScript module.

Every operation here is scriptable, so that the class can be saved with a bundle and run by libtorch alone.
"""

import torch
from torch import Tensor, nn

ITERATIONS = 3
"""Conjugate-gradient iterations for several coils. More would fit the noise, and the sparse fit that follows makes up
for the rest (docs/decisions/0003)."""


def fft_order(mask: Tensor) -> Tensor:
    """Convert a centred sampling mask to the FFT's own order, as `normal` needs it, so that no step shifts anything.

    Args:
        mask: real (batch or 1, 1, row, column), centred, 1 where measured.

    Returns:
        Mask (batch or 1, row, column). If only whole lines were measured, the transform along them cancels out of
        A^H A: the mask then has one row, and only columns are transformed.
    """
    mask = mask[:, 0]
    if bool((mask == mask[..., :1, :]).all()):
        return torch.fft.ifftshift(mask[..., :1, :], dim=-1)
    return torch.fft.ifftshift(mask, dim=(-2, -1))


class DataConsistency(nn.Module):
    """x <- x + step * d, where d brings A x closest to y, A = M F S (KD-MRI eq. 1; Schlemper et al. 2017).

    With one coil A^H A is a projection and d = A^H y - A^H A x: with step = 1 the measured samples are replaced
    exactly. With several coils d solves A^H A d = A^H y - A^H A x by a few conjugate-gradient iterations from zero
    (Aggarwal et al. 2019, MoDL), whose first direction is the same gradient; stopping early keeps d out of the noise.
    """

    def forward(self, image: Tensor, zero_filled: Tensor, mask: Tensor, sensitivities: Tensor, step: Tensor) -> Tensor:
        """Take one step towards the measurement.

        Args:
            image: complex (batch, row, column).
            zero_filled: A^H y, which is all that the step needs of the measurement y; complex (batch, row, column).
            mask: of `fft_order`.
            sensitivities: complex (batch or 1, coil, row, column) with sum |S|^2 = 1; ones for one coil.
            step: real scalar, lambda.
        """
        gradient = zero_filled - normal(image, mask, sensitivities)
        if sensitivities.shape[1] == 1:
            return image + step * gradient
        return image + step * _solve(gradient, mask, sensitivities)


def normal(image: Tensor, mask: Tensor, sensitivities: Tensor) -> Tensor:
    """A^H A x: what the measurement would see of an image, zero-filled.

    The sum goes coil after coil: one coil's image stays in the processor's cache and needs no new memory. All coils at
    once would, and allocating it takes longer than the sums (docs/decisions/0003).

    Args:
        image: x, complex (batch, row, column).
        mask: result of `fft_order`.
        sensitivities: S, complex (batch or 1, coil, row, column).

    Returns:
        Complex (batch, row, column).
    """
    # No orthonormal scaling and no shifts: a transform and its inverse cancel both.
    axes = [-1] if mask.shape[-2] == 1 else [-2, -1]
    if sensitivities.shape[1] == 1:
        # Products with ones would take as long as the transforms.
        return torch.fft.ifftn(torch.fft.fftn(image, dim=axes).mul_(mask), dim=axes)
    total = torch.zeros_like(image)
    for coil in range(sensitivities.shape[1]):
        seen = sensitivities[:, coil]
        # The norms of the two transforms cancel, so that any pair of inverse norms will do.
        kspace = torch.fft.fftn(seen * image, dim=axes).mul_(mask)
        total.addcmul_(seen.conj(), torch.fft.ifftn(kspace, dim=axes))
    return total


def _solve(gradient: Tensor, mask: Tensor, sensitivities: Tensor, iterations: int = ITERATIONS) -> Tensor:
    """Solve A^H A d = gradient by conjugate gradients from d = 0, every image of the batch on its own.

    Args:
        gradient: A^H y - A^H A x, complex (batch, row, column).
        mask: result of `fft_order`.
        sensitivities: complex (batch or 1, coil, row, column).
        iterations: steps, each with one product by A^H A.

    Returns:
        d, complex (batch, row, column).
    """
    solution = torch.zeros_like(gradient)
    residual, direction = gradient, gradient
    power = _power(residual)
    for _ in range(iterations):
        image = normal(direction, mask, sensitivities)
        # |A p|^2. The floor keeps the step finite for an image that already agrees with its measurement.
        curvature = (direction.conj() * image).real.sum(dim=[-2, -1], keepdim=True).clamp(min=1e-20)
        length = power / curvature
        solution = solution + length * direction
        residual = residual - length * image
        remaining = _power(residual)
        # The same floor as above: an image whose residual has vanished keeps its solution.
        direction = residual + remaining / power.clamp(min=1e-20) * direction
        power = remaining
    return solution


def _power(image: Tensor) -> Tensor:
    """Sum of |x|^2 over every image."""
    return torch.view_as_real(image).square().sum(dim=[-3, -2, -1]).view(-1, 1, 1)
