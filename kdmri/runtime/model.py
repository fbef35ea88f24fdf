"""What both tasks share: a bundle's sessions on a device."""

import os
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdmri.bundle import CONSISTENCY, Bundle, Manifest, cascade_file
from kdmri.runtime.onnx import OnnxDenoiser
from kdmri.runtime.torchscript import load_module


@dataclass(frozen=True)
class Model:
    """A bundle's denoisers and its data-consistency module, ready to run."""

    manifest: Manifest
    denoisers: tuple[OnnxDenoiser, ...]
    consistency: nn.Module
    step: Tensor
    device: torch.device

    @property
    def backend(self) -> str:
        """The execution provider of the denoisers."""
        return self.denoisers[0].backend


def load_model(bundle: Bundle, *, device: str = "cpu", threads: int | None = None) -> Model:
    """Open a verified bundle on a device ("cpu", "cuda", "cuda:1"); `threads` defaults to the processor's cores."""
    place = torch.device(device)
    count = threads or os.cpu_count() or 1
    cascades = range(1, bundle.manifest.architecture["cascades"] + 1)
    denoisers = (OnnxDenoiser(bundle.folder / cascade_file(n), device=place, threads=count) for n in cascades)
    step = torch.tensor(bundle.manifest.consistency_step, device=place)
    return Model(bundle.manifest, tuple(denoisers), load_module(bundle.folder / CONSISTENCY, place), step, place)
