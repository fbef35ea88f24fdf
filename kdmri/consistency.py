"""Data consistency, the step that keeps a network from changing what was measured. The one TorchScript module.

Every operation here is scriptable, so that the class can be saved with a bundle and run by libtorch alone.
"""

import torch
from torch import Tensor, nn


class DataConsistency(nn.Module):
    """x <- x + step * A^H (y - A x), with A = M F S (KD-MRI eq. 1; Schlemper et al. 2017 for one coil).

    With one coil and step = 1 the measured samples are replaced exactly.
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
        dims = [-2, -1]
        coil_images = torch.fft.ifftshift(sensitivities * image.unsqueeze(1), dim=dims)
        expected = torch.fft.fftshift(torch.fft.fft2(coil_images, norm="ortho"), dim=dims)
        residual = torch.fft.ifftshift(mask * (kspace - expected), dim=dims)
        correction = torch.fft.fftshift(torch.fft.ifft2(residual, norm="ortho"), dim=dims)
        return image + step * (sensitivities.conj() * correction).sum(dim=1)
