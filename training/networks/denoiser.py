"""Denoiser: the convolutional network inside a cascade, with optional coarser grids."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pad, pixel_shuffle

Feature = Float[Tensor, "batch channel row column"]
Planes = Float[Tensor, "batch plane row column"]

COARSE_WIDTH = 2
"""Channels of a coarser grid per channel of the denoiser: a grid has a quarter of the positions, so that twice the
channels cost as much as a convolution of the finer grid."""


class Denoiser(nn.Module):
    """x + CNN(x): 3 x 3 convolutions with ReLUs between them, `planes` channels in and out.

    With `fold` f, all convolutions but the first see a grid that is f times coarser: f times the field of view at 1/f^2
    of the cost. The first one has a stride of f and a kernel of 3f x 3f, which equals a 3 x 3 convolution of the image
    folded f x f pixels to a channel (pixel unshuffle) but needs no reshaping; the last one computes the f x f pixels of
    every position (Shi et al. 2016).

    With `scales` above 0, a branch on that many coarser grids is added to the features behind the second convolution.
    """

    def __init__(self, *, planes: int, convolutions: int, channels: int, fold: int = 1, scales: int = 0) -> None:
        super().__init__()
        self.planes, self.fold = planes, fold
        first = nn.Conv2d(planes, channels, 3 * fold, stride=fold, padding=1 if fold == 1 else 0)
        inner = [nn.Conv2d(channels, channels, 3, padding=1) for _ in range(convolutions - 2)]
        last = nn.Conv2d(channels, planes * fold**2, 3, padding=1)
        self.convolutions = nn.ModuleList([first, *inner, last])
        self.coarser = CoarserGrid(channels, COARSE_WIDTH * channels, scales) if scales else None
        for layer in (first, *inner):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            zero_bias(layer)
        # A residual network that begins near the identity lets the first steps learn from data consistency, not noise.
        nn.init.normal_(last.weight, std=1e-3)
        zero_bias(last)

    def forward(self, image: Planes) -> Planes:
        """Return the denoised image."""
        return image + self.detail(image).to(image.dtype)

    def detail(self, image: Planes) -> Planes:
        """Compute what the denoiser adds to the image."""
        hidden = image
        if self.fold > 1:
            # One pixel of the coarser grid on every side, and where `fold` does not divide a size what is short of it.
            hidden = pad(image, (self.fold, 2 * self.fold - 1) * 2)
        seen = hidden = torch.relu(self.convolutions[0](hidden))
        for number, convolution in enumerate(self.convolutions[1:-1]):
            hidden = convolution(hidden)
            if number == 0 and self.coarser is not None:
                hidden = hidden + self.coarser(seen)
            hidden = torch.relu(hidden)
        detail = self.convolutions[-1](hidden)
        if self.fold > 1:
            rows, columns = image.shape[-2:]
            detail = pixel_shuffle(detail, self.fold)[..., :rows, :columns]
        return detail


class CoarserGrid(nn.Module):
    """Branch of a U-Net (Ronneberger et al. 2015): features seen on a grid of half the resolution, and back.

    `scales` counts the grids, each half as fine as the one before. The last layer starts at zero, so that a network to
    which a branch is added computes the same as before until the branch learns (Net2Net, Chen et al. 2016).
    """

    def __init__(self, channels: int, width: int, scales: int, *, silent: bool = True) -> None:
        super().__init__()
        self.down = nn.Conv2d(channels, width, 3, stride=2, padding=1)
        self.inner = nn.Conv2d(width, width, 3, padding=1)
        # Only the outermost grid starts at zero: were the inner ones zero as well, two factors would have to leave zero
        # one after the other.
        self.coarser = CoarserGrid(width, width, scales - 1, silent=False) if scales > 1 else None
        self.up = nn.Conv2d(width, 4 * channels, 1)
        for layer in (self.down, self.inner):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            zero_bias(layer)
        if silent:
            nn.init.zeros_(self.up.weight)
            zero_bias(self.up)

    def forward(self, feature: Feature) -> Feature:
        """Return features of the input's shape, also where a size is odd."""
        seen = torch.relu(self.down(feature))
        hidden = self.inner(seen)
        if self.coarser is not None:
            hidden = hidden + self.coarser(seen)
        rows, columns = feature.shape[-2:]
        # The stride rounds odd sizes up: what exceeds them is cut off.
        return pixel_shuffle(self.up(torch.relu(hidden)), 2)[..., :rows, :columns]


def zero_bias(layer: nn.Conv2d) -> None:
    """Set a convolution's bias, if it has one, to zero."""
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
