"""A bundle's network in PyTorch again, with the bundle's weights: what the bundle is measured against."""

from collections.abc import Callable
from functools import partial

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from kdmri.bundle import Bundle, cascade_file
from kdmri.coils import combine
from kdmri.fourier import ifft2c
from kdmri.records import KSpace
from kdmri.runtime.reconstructor import measurements
from kdmri.scaling import intensity_scale
from training.networks import DCCNN


def network(bundle: Bundle) -> DCCNN:
    """The network that a reconstruction bundle was exported from, in its fastest memory format on a CPU."""
    found = DCCNN(**bundle.manifest.architecture)
    weights = {}
    for number in range(len(found.cascades)):
        graph = onnx.load(bundle.folder / cascade_file(number + 1)).graph
        for tensor in graph.initializer:
            name = tensor.name.replace("denoiser.", f"cascades.{number}.")
            weights[name] = torch.from_numpy(numpy_helper.to_array(tensor).copy())
    wanted = found.state_dict()
    found.load_state_dict({name: weights.get(name, value) for name, value in wanted.items()})
    return found.eval().to(memory_format=torch.channels_last)


def reconstruction(kspace: KSpace, model: DCCNN) -> Callable[[], Tensor]:
    """The same work as `Reconstructor.reconstruct`: sensitivities, scaling, cascades, magnitude."""
    return partial(_reconstructed, kspace, model)


@torch.inference_mode()
def _reconstructed(kspace: KSpace, model: DCCNN) -> Tensor:
    parts = []
    for samples, mask, maps in measurements(kspace, torch.device("cpu")):
        image = combine(ifft2c(samples), maps)
        scale = intensity_scale(image)
        parts.append((model(image / scale, samples / scale[:, None], mask, maps) * scale).abs())
    return torch.cat(parts)


def operations(model: nn.Module, rows: int, columns: int) -> int:
    """Floating-point operations, multiplications and additions, of all convolutions on one image."""
    counted = 0

    def count(layer: nn.Module, _: object, answer: Tensor) -> None:
        nonlocal counted
        counted += 2 * answer.numel() * layer.weight[0].numel()

    layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    with torch.inference_mode():
        for denoiser in model.cascades:
            denoiser(torch.zeros(1, denoiser.planes, rows, columns))
    for hook in hooks:
        hook.remove()
    return counted
