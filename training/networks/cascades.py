"""DC-CNN and VDSR. Teacher and student are the same class with other numbers (see recipes/)."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn
from torch.nn.functional import pad, pixel_shuffle

from kdmri.physics.consistency import DataConsistency, fft_order

Feature = Float[Tensor, "batch channel row column"]


class Denoiser(nn.Module):
    """x + CNN(x): `convolutions` convolutions with ReLUs between them, 3 x 3, `planes` channels in and out.

    With `fold` f all but the first see a grid f times coarser: f times the view, at 1/f^2 of the cost. The first takes
    strides of f with a kernel of 3f x 3f, which is a 3 x 3 convolution of the image folded f x f pixels to a channel
    (pixel unshuffle), without the folding; the last answers f x f pixels in every place (Shi et al. 2016).
    """

    def __init__(self, *, planes: int, convolutions: int, channels: int, fold: int = 1) -> None:
        super().__init__()
        self.planes, self.fold = planes, fold
        first = nn.Conv2d(planes, channels, 3 * fold, stride=fold, padding=1 if fold == 1 else 0)
        inner = [nn.Conv2d(channels, channels, 3, padding=1) for _ in range(convolutions - 2)]
        last = nn.Conv2d(channels, planes * fold**2, 3, padding=1)
        self.convolutions = nn.ModuleList([first, *inner, last])
        for layer in self.convolutions[:-1]:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        # A residual network that begins near the identity lets the first steps learn from data consistency, not noise.
        nn.init.normal_(self.convolutions[-1].weight, std=1e-3)
        nn.init.zeros_(self.convolutions[-1].bias)

    def forward(self, image: Float[Tensor, "batch plane row column"]) -> Float[Tensor, "batch plane row column"]:
        """The denoised image."""
        return image + self.detail(image).to(image.dtype)

    def detail(self, image: Float[Tensor, "batch plane row column"]) -> Float[Tensor, "batch plane row column"]:
        """What is added to the image."""
        hidden = image
        if self.fold > 1:
            # One pixel of the coarser grid on every side, and where `fold` does not divide a size what is short of it.
            hidden = pad(image, (self.fold, 2 * self.fold - 1) * 2)
        for convolution in self.convolutions[:-1]:
            hidden = torch.relu(convolution(hidden))
        detail = self.convolutions[-1](hidden)
        if self.fold > 1:
            rows, columns = image.shape[-2:]
            detail = pixel_shuffle(detail, self.fold)[..., :rows, :columns]
        return detail


class DCCNN(nn.Module):
    """Cascades of a denoiser and data consistency: x <- DC(x + CNN(x)) (Schlemper et al. 2017; KD-MRI's D5C5, D5C3).

    Cascades that are `shared` have the weights of all but their first and last convolution between them.
    """

    def __init__(self, *, cascades: int, convolutions: int, channels: int, fold: int = 1, shared: bool = False) -> None:
        super().__init__()
        self.cascades = nn.ModuleList(
            Denoiser(planes=2, convolutions=convolutions, channels=channels, fold=fold) for _ in range(cascades)
        )
        if shared:
            inner = self.cascades[0].convolutions[1:-1]
            for denoiser in self.cascades[1:]:
                denoiser.convolutions = nn.ModuleList([denoiser.convolutions[0], *inner, denoiser.convolutions[-1]])
        self.consistency = DataConsistency()
        self.register_buffer("step", torch.ones(()))

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

    def forward(self, image: Float[Tensor, "batch row column"]) -> Float[Tensor, "batch row column"]:
        """The image with detail added; the caller projects it onto what was measured (kdmri.resampling)."""
        planes = image.unsqueeze(1).contiguous(memory_format=torch.channels_last)
        return self.cascades[0](planes).squeeze(1)


def deepened(weights: dict[str, Tensor], cascades: int) -> dict[str, Tensor]:
    """Weights of a DCCNN, as those of one of more cascades that answers the same (after Chen et al. 2016, Net2Net).

    New cascades have the convolutions of the last one, but add nothing: what agrees with the data stays as it is.
    """
    weights = dict(weights)
    known = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("cascades."))
    of_last = {name: value for name, value in weights.items() if name.startswith(f"cascades.{known - 1}.")}
    output = max(int(name.split(".")[3]) for name in of_last)
    for number in range(known, cascades):
        for name, value in of_last.items():
            _, _, convolutions, convolution, kind = name.split(".")
            grown = torch.zeros_like(value) if int(convolution) == output else value
            weights[f"cascades.{number}.{convolutions}.{convolution}.{kind}"] = grown
    return weights


def shortened(weights: dict[str, Tensor], convolutions: int) -> dict[str, Tensor]:
    """Weights of denoisers, as those of denoisers of fewer convolutions: a better start than chance, no more.

    The last ones but one are left out.
    """
    output = max(int(name.split(".")[3]) for name in weights if name.startswith("cascades."))
    fewer = {}
    for name, value in weights.items():
        parts = name.split(".")
        if parts[0] == "cascades" and int(parts[3]) == output:
            parts[3] = str(convolutions - 1)
        elif parts[0] == "cascades" and int(parts[3]) >= convolutions - 1:
            continue
        fewer[".".join(parts)] = value
    return fewer


@contextmanager
def features(network: nn.Module, layer: int) -> Iterator[list[Feature]]:
    """What convolution number `layer` (from 1) of every cascade answers, after its ReLU, in each call made inside."""
    seen: list[Feature] = []
    hooks = [
        denoiser.convolutions[layer - 1].register_forward_hook(lambda _, __, answer: seen.append(torch.relu(answer)))
        for denoiser in network.cascades
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def flows(network: nn.Module, layer: int) -> Iterator[tuple[list[Feature], list[Feature]]]:
    """Features of the first convolution and of number `layer` of every cascade, as `features` sees them."""
    with features(network, 1) as first, features(network, layer) as last:
        yield first, last


@contextmanager
def cascade_images(network: DCCNN) -> Iterator[list[Complex[Tensor, "batch row column"]]]:
    """The image after every cascade, in each call made inside."""
    seen: list[Tensor] = []
    hook = network.consistency.register_forward_hook(lambda _, __, image: seen.append(image))
    try:
        yield seen
    finally:
        hook.remove()


def parameters(network: nn.Module) -> int:
    """How many numbers a network learns."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)
