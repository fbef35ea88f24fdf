"""Weights of a bundle, read back from its ONNX graphs, for training that goes on without a checkpoint."""

from pathlib import Path

import onnx
import torch
from onnx.numpy_helper import to_array
from torch import Tensor

from kdmri.bundles.manifest import cascade_file
from kdmri.bundles.store import Bundle, load
from kdmri.errors import CorruptBundle


def load_weights(models: Path, reference: str) -> dict[str, Tensor]:
    """Read the weights of the bundle name@version, by the names that DCCNN and VDSR give them.

    Raises:
        CorruptBundle: the bundle is damaged, or its graphs hold no weights under the denoiser's names.
    """
    name, _, version = reference.partition("@")
    bundle = load(models / name / version)
    weights: dict[str, Tensor] = {}
    for number in range(bundle.manifest.architecture["cascades"]):
        weights |= _cascade_weights(bundle, number)
    return weights


def _cascade_weights(bundle: Bundle, number: int) -> dict[str, Tensor]:
    graph = onnx.load(bundle.folder / cascade_file(number + 1)).graph
    # The exporter keeps the names of parameters; its own constants (shapes, axes) have other names.
    found = {part.name: part for part in graph.initializer if part.name.startswith("denoiser.")}
    if not found:
        raise CorruptBundle(f"model {bundle.manifest.reference}: expected weights named denoiser.* in its graphs")
    return {
        f"cascades.{number}.{name.removeprefix('denoiser.')}": torch.from_numpy(to_array(part).copy())
        for name, part in found.items()
    }
