"""The models that the service offers: every bundle of a folder, loaded and warmed up once."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import structlog

from kdmri.bundle import Bundle, Manifest, choose, load_all
from kdmri.records import Images, KSpace
from kdmri.runtime import Reconstructor, SuperResolver
from kdmri.runtime.model import Model, load_model
from service import telemetry

log = structlog.get_logger()


class Models:
    """Loaded models by reference (name@version)."""

    def __init__(self, folder: Path, *, device: str, threads: int | None) -> None:
        self.bundles: Sequence[Bundle] = load_all(folder)
        self._loaded = {b.manifest.reference: load_model(b, device=device, threads=threads) for b in self.bundles}
        for model in self._loaded.values():
            _warm_up(model)
            _announce(model)

    def reconstructor(self, role: str, model: str | None) -> Reconstructor:
        """Raises InvalidRequest or UnknownModel, see `kdmri.bundle.choose`."""
        chosen = choose(self.bundles, "reconstruction", role=role, model=model)
        return Reconstructor(self._loaded[chosen.manifest.reference])

    def super_resolver(self, role: str, model: str | None) -> SuperResolver:
        """Raises InvalidRequest or UnknownModel, see `kdmri.bundle.choose`."""
        chosen = choose(self.bundles, "super-resolution", role=role, model=model)
        return SuperResolver(self._loaded[chosen.manifest.reference])

    def manifests(self) -> list[Manifest]:
        """What GET /models answers."""
        return [bundle.manifest for bundle in self.bundles]


def _warm_up(model: Model) -> None:
    """One small run: allocations and kernel choices are made before the first request."""
    if model.manifest.task == "reconstruction":
        samples = np.ones((1, 1, 64, 64), np.complex64)
        Reconstructor(model).reconstruct(KSpace(samples, np.ones((1, 64, 64), bool), (64, 64)))
    else:
        SuperResolver(model).super_resolve(
            Images(np.ones((1, 32, 32), np.float32)), model.manifest.trained_on["scales"][0]
        )


def _announce(model: Model) -> None:
    manifest = model.manifest
    labels = (manifest.name, manifest.version, manifest.role, manifest.task, model.backend, str(model.device))
    telemetry.MODEL_INFO.labels(*labels).set(1)
    log.info("model ready", model=manifest.reference, backend=model.backend, device=str(model.device))
