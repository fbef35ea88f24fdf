"""What both tasks share: a bundle's sessions on a device."""

import os
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdmri.bundles.manifest import CONSISTENCY, Manifest, cascade_file
from kdmri.bundles.store import Bundle
from kdmri.runtime.backends.denoiser import Denoiser
from kdmri.runtime.backends.selection import ONNXRUNTIME, denoiser
from kdmri.runtime.backends.torchscript import load_module


@dataclass(frozen=True)
class Model:
    """A bundle's denoisers and its data-consistency module, ready to run."""

    manifest: Manifest
    denoisers: tuple[Denoiser, ...]
    consistency: nn.Module
    step: Tensor
    device: torch.device

    @property
    def backend(self) -> str:
        """What runs the denoisers."""
        return self.denoisers[0].backend


def load_model(
    bundle: Bundle,
    *,
    device: str = "cpu",
    threads: int | None = None,
    inferences: int = 1,
    backend: str = ONNXRUNTIME,
) -> Model:
    """Open a verified bundle on a device ("cpu", "cuda", "cuda:1"), for so many `inferences` at a time.

    `threads` of each by default are the processor's cores; where given, they are torch's, too, in all of this process.
    Raises InvalidRequest for a back end that this machine does not offer; see kdmri.runtime.backends.
    """
    place = torch.device(device)
    count = threads or os.cpu_count() or 1
    if threads:
        torch.set_num_threads(threads)
    files = [bundle.folder / cascade_file(n + 1) for n in range(bundle.manifest.architecture["cascades"])]
    denoisers = tuple(denoiser(f, backend, device=place, threads=count, inferences=inferences) for f in files)
    step = torch.tensor(bundle.manifest.consistency_step, device=place)
    return Model(bundle.manifest, denoisers, load_module(bundle.folder / CONSISTENCY, place), step, place)
