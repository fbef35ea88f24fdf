"""A bundle ready to run on a device: the part that both tasks share."""

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
        """Name of the library that runs the denoisers, with its precision if that is not single."""
        return self.denoisers[0].backend


def load_model(
    bundle: Bundle,
    *,
    device: str = "cpu",
    threads: int | None = None,
    inferences: int = 1,
    backend: str = ONNXRUNTIME,
) -> Model:
    """Open a verified bundle on a device.

    Args:
        bundle: verified model folder.
        device: "cpu", "cuda" or "cuda:1".
        threads: threads of one inference; by default as many as the processor has cores. If given, it is also set as
            the number of torch's threads for this process.
        inferences: inferences that may run at the same time.
        backend: one of `selection.BACKENDS`.

    Returns:
        The model; it can be called from several threads.

    Raises:
        InvalidRequest: this machine does not offer the back end.
    """
    place = torch.device(device)
    count = threads or os.cpu_count() or 1
    if threads:
        torch.set_num_threads(threads)
    files = [bundle.folder / cascade_file(n + 1) for n in range(bundle.manifest.architecture["cascades"])]
    # A graph for each cascade, because data consistency runs between them, outside of the back end.
    denoisers = tuple(denoiser(f, backend, device=place, threads=count, inferences=inferences) for f in files)
    # A tensor on the device, so that no step waits for a number to be copied there.
    step = torch.tensor(bundle.manifest.consistency_step, device=place)
    return Model(bundle.manifest, denoisers, load_module(bundle.folder / CONSISTENCY, place), step, place)
