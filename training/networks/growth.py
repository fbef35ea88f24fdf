"""Network growth: weights of a small network as those of a larger one that computes the same (Chen et al. 2016).

Names of weights are `cascades.<number>.convolutions.<number>.<weight|bias>`, both numbers counted from 0.
"""

import torch
from torch import Tensor, nn

Weights = dict[str, Tensor]


def grow(weights: Weights, network: nn.Module) -> Weights:
    """Fit weights into a network of more cascades, more channels, coarser grids or unshared convolutions.

    The network computes what the weights' own network did, to rounding. New channels keep the network's initial weights
    towards what they see and get zeros towards what reads them; coarser grids keep their initial weights, whose last
    layer is zero.

    Args:
        weights: of a network of the same `fold` and at most as many convolutions a cascade.
        network: the larger network, with its initial weights.

    Returns:
        Weights to load into `network`.
    """
    grown = dict(network.state_dict())
    wanted = 1 + max(_cascade(name) for name in grown if name.startswith("cascades."))
    for name, value in add_cascades(weights, wanted).items():
        grown[name] = _place_in_wider(value, grown[name]) if value.shape != grown[name].shape else value
    return grown


def add_cascades(weights: Weights, cascades: int) -> Weights:
    """Fit weights of a DCCNN into one of more cascades.

    New cascades have the convolutions of the last one but with a last convolution of zeros: they add nothing to an
    image, and data consistency leaves an image that agrees with the data as it is.
    """
    weights = dict(weights)
    known = 1 + max(_cascade(name) for name in weights if name.startswith("cascades."))
    last = {name: value for name, value in weights.items() if name.startswith(f"cascades.{known - 1}.")}
    output = max(_convolution(name) for name in last if ".convolutions." in name)
    for number in range(known, cascades):
        for name, value in last.items():
            is_output = ".convolutions." in name and _convolution(name) == output
            copied = f"cascades.{number}." + name.split(".", 2)[2]
            weights[copied] = torch.zeros_like(value) if is_output else value
    return weights


def drop_convolutions(weights: Weights, convolutions: int) -> Weights:
    """Fit weights into denoisers of fewer convolutions: a better start than chance, but not the same network.

    The convolutions before the last one are dropped, last ones first.
    """
    output = max(_convolution(name) for name in weights if ".convolutions." in name)
    fewer = {}
    for name, value in weights.items():
        parts = name.split(".")
        if ".convolutions." in name and int(parts[3]) == output:
            parts[3] = str(convolutions - 1)
        elif ".convolutions." in name and int(parts[3]) >= convolutions - 1:
            continue
        fewer[".".join(parts)] = value
    return fewer


def _place_in_wider(old: Tensor, initial: Tensor) -> Tensor:
    """Place weights in the first channels of larger ones; what reads a new channel from an old one gets zeros."""
    wide = initial.clone()
    if old.dim() > 1:
        wide[: old.shape[0], old.shape[1] :] = 0
    wide[tuple(slice(size) for size in old.shape)] = old
    return wide


def _cascade(name: str) -> int:
    return int(name.split(".")[1])


def _convolution(name: str) -> int:
    return int(name.split(".")[3])
