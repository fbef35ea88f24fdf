"""The network of a bundle rebuilt in PyTorch with the bundle's weights: a baseline for the exported graphs."""

from dataclasses import replace

import onnx
import torch
from kdmri_training.networks.cascades import DCCNN, arrange
from onnx import numpy_helper
from torch import Tensor, nn

from kdmri.bundles.manifest import cascade_file
from kdmri.bundles.store import Bundle
from kdmri.physics.consistency import DataConsistency
from kdmri.runtime.backends.denoiser import Planes
from kdmri.runtime.model import Model, load_model


class EagerDenoiser:
    """A cascade's network as in training, for planes-last images, which is PyTorch's channels_last layout."""

    backend = "PyTorch"
    planes = 2

    def __init__(self, network: nn.Module) -> None:
        self._network = network

    def __call__(self, planes: Planes) -> Planes:
        """Return the denoised planes."""
        return self._network(planes.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).contiguous()


def network(bundle: Bundle) -> DCCNN:
    """Rebuild the network that a reconstruction bundle was exported from, in its fastest memory format on a CPU."""
    size = bundle.manifest.architecture
    found = DCCNN(
        cascades=size["cascades"],
        convolutions=size["convolutions"],
        channels=size["channels"],
        fold=size.get("fold", 1),
        shared=bool(size.get("shared", False)),
        scales=size.get("scales", 0),
    )
    weights = {}
    for number in range(size["cascades"]):
        graph = onnx.load(bundle.folder / cascade_file(number + 1)).graph
        for tensor in graph.initializer:
            name = tensor.name.replace("denoiser.", f"cascades.{number}.")
            weights[name] = torch.from_numpy(numpy_helper.to_array(tensor).copy())
    wanted = found.state_dict()
    found.load_state_dict({name: weights.get(name, value) for name, value in wanted.items()})
    return arrange(found.eval(), torch.channels_last)


def model(bundle: Bundle, threads: int) -> Model:
    """Return the bundle with networks and data consistency in PyTorch; everything else is as served."""
    denoisers = tuple(EagerDenoiser(cascade) for cascade in network(bundle).denoisers())
    return replace(load_model(bundle, threads=threads), denoisers=denoisers, consistency=DataConsistency())


def operations(network: DCCNN, rows: int, columns: int) -> int:
    """Count the floating-point operations, multiplications and additions, of all convolutions on one image.

    Args:
        network: The network.
        rows: Rows of the image.
        columns: Columns of the image.
    """
    counted = 0

    def count(layer: nn.Conv2d, _: object, answer: Tensor) -> None:
        nonlocal counted
        counted += 2 * answer.numel() * layer.weight[0].numel()

    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    with torch.inference_mode():
        for denoiser in network.denoisers():
            denoiser(torch.zeros(1, denoiser.planes, rows, columns))
    for hook in hooks:
        hook.remove()
    return counted
