"""DC-CNN and VDSR. Teacher and student are the same class with other numbers (see recipes/)."""

from typing import TypeVar

import torch
from jaxtyping import Complex, Float
from kdmri_training.networks.denoiser import Denoiser
from torch import Tensor, nn

from kdmri.physics.consistency import DataConsistency, fft_order

Part = TypeVar("Part", bound=nn.Module)


class DCCNN(nn.Module):
    """Cascades of a denoiser and data consistency: x <- DC(x + CNN(x)) (Schlemper et al. 2017; KD-MRI's D5C5, D5C3).

    Args:
        cascades: number of cascades.
        convolutions: number of convolutions of a denoiser.
        channels: channels of a denoiser.
        fold: pixels along each axis that a denoiser folds into one position.
        shared: whether all cascades use the same inner convolutions; their first and last ones are always their own.
        scales: number of coarser grids inside a denoiser.
    """

    def __init__(
        self, *, cascades: int, convolutions: int, channels: int, fold: int = 1, shared: bool = False, scales: int = 0
    ) -> None:
        super().__init__()
        self.cascades = nn.ModuleList(
            Denoiser(planes=2, convolutions=convolutions, channels=channels, fold=fold, scales=scales)
            for _ in range(cascades)
        )
        if shared:
            first, *others = self.denoisers()
            inner = first.convolutions[1:-1]
            for denoiser in others:
                denoiser.convolutions = nn.ModuleList([denoiser.convolutions[0], *inner, denoiser.convolutions[-1]])
        self.consistency = DataConsistency()
        self.step: Tensor
        self.register_buffer("step", torch.ones(()))

    def denoisers(self) -> list[Denoiser]:
        """Return the denoiser of every cascade, first to last."""
        return [denoiser for denoiser in self.cascades if isinstance(denoiser, Denoiser)]

    def forward(
        self,
        image: Complex[Tensor, "batch row column"],
        mask: Float[Tensor, "batch 1 row column"],
        sensitivities: Complex[Tensor, "batch coil row column"],
    ) -> Complex[Tensor, "batch row column"]:
        """Reconstruct from the zero-filled image, the centred mask and the sensitivities."""
        zero_filled, pattern = image, fft_order(mask)
        for denoiser in self.cascades:
            planes = torch.view_as_real(image).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
            denoised = denoiser(planes).float().permute(0, 2, 3, 1).contiguous()
            image = self.consistency(torch.view_as_complex(denoised), zero_filled, pattern, sensitivities, self.step)
        return image


class VDSR(nn.Module):
    """Detail for an image already interpolated to the fine grid (Kim et al. 2016)."""

    def __init__(self, *, convolutions: int, channels: int, fold: int = 1) -> None:
        super().__init__()
        self.cascades = nn.ModuleList([Denoiser(planes=1, convolutions=convolutions, channels=channels, fold=fold)])

    def denoisers(self) -> list[Denoiser]:
        """Return the only denoiser."""
        return [denoiser for denoiser in self.cascades if isinstance(denoiser, Denoiser)]

    def forward(self, image: Float[Tensor, "batch row column"]) -> Float[Tensor, "batch row column"]:
        """Return the image with detail added; the caller projects it onto the measurement (physics.resampling)."""
        planes = image.unsqueeze(1).contiguous(memory_format=torch.channels_last)
        detailed: Tensor = self.cascades[0](planes)
        return detailed.squeeze(1)


Network = DCCNN | VDSR


def parameters(network: nn.Module) -> int:
    """Count the numbers that a network learns."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def arrange(network: Part, order: torch.memory_format) -> Part:
    """Store the weights of a network's convolutions in a memory order, and return the network.

    `nn.Module.to` does the same, but its type does not declare the argument.
    """
    for weight in network.parameters():
        # A memory order is defined for weights of four axes alone; biases have one.
        if weight.dim() == 4:
            weight.data = weight.data.to(weight.dtype, memory_format=order)
    return network
