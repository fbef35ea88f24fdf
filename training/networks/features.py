"""Features and images inside a network, recorded while it runs."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Complex
from kdmri_training.networks.cascades import DCCNN, Network
from kdmri_training.networks.denoiser import Feature
from torch import Tensor, nn


@contextmanager
def features(network: Network, layer: int) -> Iterator[list[Feature]]:
    """Record the output, after its ReLU, of convolution `layer` (from 1) of every cascade, in each call made inside."""
    seen: list[Feature] = []

    def record(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append(torch.relu(output))

    hooks = [denoiser.convolutions[layer - 1].register_forward_hook(record) for denoiser in network.denoisers()]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def first_and_later_features(network: Network, layer: int) -> Iterator[tuple[list[Feature], list[Feature]]]:
    """Record features of the first convolution and of number `layer` of every cascade, as `features` does."""
    with features(network, 1) as first, features(network, layer) as later:
        yield first, later


@contextmanager
def cascade_images(network: DCCNN) -> Iterator[list[Complex[Tensor, "batch row column"]]]:
    """Record the image after every cascade, in each call made inside."""
    seen: list[Tensor] = []

    def record(module: nn.Module, inputs: tuple[Tensor, ...], image: Tensor) -> None:
        seen.append(image)

    hook = network.consistency.register_forward_hook(record)
    try:
        yield seen
    finally:
        hook.remove()
