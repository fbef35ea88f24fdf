"""The models that the service offers: every bundle of a folder, loaded and warmed up once."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import structlog
import torch
from kdmri_service.observability import multiprocess as processes
from kdmri_service.observability import observation as telemetry
from kdmri_service.observability.observation import BOTH

from kdmri.bundles.manifest import ROLES, Manifest, Task
from kdmri.bundles.store import Bundle, choose, load_all
from kdmri.data.images import Images
from kdmri.data.kspace import KSpace
from kdmri.errors import InvalidRequest, UnknownModel
from kdmri.runtime import Reconstructor, SuperResolver
from kdmri.runtime.backends.selection import ONNXRUNTIME, TENSORRT, Choice, fastest, unusable
from kdmri.runtime.model import Model, load_model

log = structlog.get_logger()

AUTO = "auto"
"""The setting that leaves the back end to a measurement."""


class Models:
    """Loaded models by reference (name@version)."""

    def __init__(self, folder: Path, *, device: str, threads: int, inferences: int = 1, backend: str = AUTO) -> None:
        self.bundles: Sequence[Bundle] = load_all(folder)
        self.device, self.threads = device, threads
        if device != "cpu" and (reason := unusable(ONNXRUNTIME, torch.device(device), self.bundles[:1])):
            log.warning("the processor takes the device's place", device=device, reason=reason)
            self.device = "cpu"
        if backend == TENSORRT and (reason := unusable(TENSORRT, torch.device(self.device), self.bundles)):
            log.warning("another back end takes TensorRT's place", reason=reason)
            backend = AUTO
        choice = self._chosen(backend)
        self.backend = choice.backend
        log.info("back end chosen", backend=choice.backend, reason=choice.reason)
        self._loaded = {
            bundle.manifest.reference: load_warm(
                bundle, device=self.device, threads=threads, inferences=inferences, backend=self.backend
            )
            for bundle in self.bundles
        }
        telemetry.MODEL_INFO.clear()
        for model in self._loaded.values():
            _announce(model)

    def _chosen(self, backend: str) -> Choice:
        """One back end for all models and all workers, so that their times compare."""
        if backend != AUTO:
            return Choice(backend, "set by KDMRI_BACKEND")
        measured = partial(fastest, self.bundles, device=torch.device(self.device), threads=self.threads)
        return Choice(**processes.agreed("backend", lambda: vars(measured())))

    def choose(self, task: Task, role: str, model: str | None) -> list[Model]:
        """The model to run, or for role `both` the student and then the teacher.

        Raises InvalidRequest or UnknownModel, see `kdmri.bundles.store.choose`.
        """
        if role not in (*ROLES, BOTH):
            raise InvalidRequest(f"expected role {' or '.join((*ROLES, BOTH))}, got {role[:40]!r}")
        if role != BOTH:
            return [self._of(choose(self.bundles, task, role=role, model=model))]
        chosen = choose(self.bundles, task, model=model)
        other = self.counterpart(chosen.manifest)
        if other is None:
            raise UnknownModel(
                f"expected a counterpart of {chosen.manifest.reference} to compare it with, there is none"
            )
        pair = {bundle.manifest.role: self._of(bundle) for bundle in (chosen, other)}
        return [pair[role] for role in ROLES]

    def counterpart(self, manifest: Manifest) -> Bundle | None:
        """The teacher that a student was distilled from, or else the newest model of the other role, if any."""
        for bundle in self.bundles:
            if bundle.manifest.reference == manifest.distilled_from:
                return bundle
        other = next(role for role in ROLES if role != manifest.role)
        try:
            return choose(self.bundles, manifest.task, role=other)
        except UnknownModel:
            return None

    def manifests(self) -> list[Manifest]:
        """What GET /models answers."""
        return [bundle.manifest for bundle in self.bundles]

    def _of(self, bundle: Bundle) -> Model:
        return self._loaded[bundle.manifest.reference]


def load_warm(bundle: Bundle, *, device: str, threads: int, backend: str, inferences: int = 1) -> Model:
    """A model after one small run: allocations and kernel choices are made before the first request."""
    model = load_model(bundle, device=device, threads=threads, inferences=inferences, backend=backend)
    if model.manifest.task == "reconstruction":
        samples = np.ones((1, 1, 64, 64), np.complex64)
        Reconstructor(model).reconstruct(KSpace(samples, np.ones((1, 64, 64), bool), (64, 64)))
    else:
        small = Images(np.ones((1, 32, 32), np.float32))
        SuperResolver(model).super_resolve(small, model.manifest.trained_on["scales"][0])
    return model


def _announce(model: Model) -> None:
    manifest = model.manifest
    labels = (manifest.name, manifest.version, manifest.role, manifest.task, model.backend, str(model.device))
    telemetry.MODEL_INFO.labels(*labels).set(1)
    telemetry.stated(manifest)
    log.info("model ready", model=manifest.reference, backend=model.backend, device=str(model.device))
