"""The catalogue: the models that the service offers, every bundle of a folder, loaded and warmed up once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog
import torch
from kdmri_service.engine.workers import agree
from kdmri_service.observability import metrics

from kdmri.bundles.manifest import ROLES, Manifest, Task
from kdmri.bundles.store import Bundle, choose, load_all
from kdmri.errors import CorruptBundle, InvalidRequest, UnknownModel
from kdmri.operations import OPERATIONS, Operation
from kdmri.operations.operation import BOTH
from kdmri.runtime.backends.selection import ONNXRUNTIME, TENSORRT, Choice, choose_fastest, why_unavailable
from kdmri.runtime.model import Model, load_model

log = structlog.get_logger()

AUTO = "auto"
"""The setting that leaves the back end to a measurement."""


@dataclass(frozen=True)
class Catalogue:
    """Loaded models by reference (name@version), and how they run."""

    bundles: Sequence[Bundle]
    models: Mapping[str, Model]
    device: str
    threads: int
    backend: str

    def choose(self, task: Task, role: str, model: str | None) -> list[Model]:
        """Choose the models that answer a request.

        Args:
            task: The task of the operation.
            role: student, teacher or both.
            model: NAME or NAME@VERSION; None for the newest of the role.

        Returns:
            One model; for role `both` the student and then the teacher.

        Raises:
            InvalidRequest: The role does not exist.
            UnknownModel: There is no such model, or for role `both` no counterpart of it.
        """
        if role not in (*ROLES, BOTH):
            raise InvalidRequest(f"expected role {' or '.join((*ROLES, BOTH))}, got {role[:40]!r}")
        if role != BOTH:
            return [self._model(choose(self.bundles, task, role=role, model=model))]
        chosen = choose(self.bundles, task, model=model)
        counterpart = self.counterpart(chosen.manifest)
        if counterpart is None:
            raise UnknownModel(
                f"expected a counterpart of {chosen.manifest.reference} to compare it with, there is none"
            )
        pair = {bundle.manifest.role: self._model(bundle) for bundle in (chosen, counterpart)}
        return [pair[role] for role in ROLES]

    def bundle(self, reference: str) -> Bundle:
        """Return the bundle of name@version."""
        return next(bundle for bundle in self.bundles if bundle.manifest.reference == reference)

    def counterpart(self, manifest: Manifest) -> Bundle | None:
        """Return the teacher that a student was distilled from, else the newest model of the other role, if any."""
        # The teacher that a student learned from comes first: the comparison then shows what distillation cost.
        for bundle in self.bundles:
            if bundle.manifest.reference == manifest.distilled_from:
                return bundle
        other_role = next(role for role in ROLES if role != manifest.role)
        try:
            return choose(self.bundles, manifest.task, role=other_role)
        except UnknownModel:
            return None

    def find(self, name: str) -> Manifest:
        """Return the manifest of NAME (its newest version) or NAME@VERSION, of any task. Raises UnknownModel."""
        for task in dict.fromkeys(bundle.manifest.task for bundle in self.bundles):
            try:
                return choose(self.bundles, task, model=name).manifest
            except UnknownModel:
                continue
        known = ", ".join(manifest.reference for manifest in self.manifests())
        raise UnknownModel(f"expected one of {known}, got {name[:80]!r}")

    def manifests(self) -> list[Manifest]:
        """Return the manifests of all models, by name, then version."""
        return [bundle.manifest for bundle in self.bundles]

    def _model(self, bundle: Bundle) -> Model:
        return self.models[bundle.manifest.reference]


def load_catalogue(
    folder: Path,
    *,
    device: str,
    threads: int,
    inferences: int = 1,
    backend: str = AUTO,
    operations: Sequence[type[Operation]] = OPERATIONS,
) -> Catalogue:
    """Load and warm up all models of a folder, and export them in the metrics.

    Args:
        folder: The models folder, <name>/<version>/.
        device: Where models run; the processor takes its place if it can't be used, and the log gives the reason.
        threads: Threads of one inference.
        inferences: Number of inferences at a time.
        backend: What runs the networks, or AUTO.
        operations: The operations that the models are for.

    Raises:
        UnknownModel: The folder holds no model.
        CorruptBundle: A model is incomplete or changed, or no operation has its task.
        InvalidRequest: This machine does not offer the back end.
    """
    bundles = load_all(folder)
    # A service without its card is slow, one that does not start is none: an operator sees the warning and the metric.
    if device != "cpu" and (reason := why_unavailable(ONNXRUNTIME, torch.device(device), bundles[:1])):
        log.warning("the processor takes the device's place", device=device, reason=reason)
        device = "cpu"
    choice = _choose_backend(backend, bundles, device=device, threads=threads)
    log.info("back end chosen", backend=choice.backend, reason=choice.reason)
    # An application may be started twice in one process, as tests do, with other models.
    metrics.MODEL_INFO.clear()
    models = {}
    for bundle in bundles:
        operation = operation_of(bundle.manifest, operations)
        model = load_warm(
            bundle, operation, device=device, threads=threads, inferences=inferences, backend=choice.backend
        )
        models[bundle.manifest.reference] = model
        _announce(model, operation)
    return Catalogue(bundles, models, device, threads, choice.backend)


def _choose_backend(backend: str, bundles: Sequence[Bundle], *, device: str, threads: int) -> Choice:
    """Choose one back end for all models and all workers, so that their times can be compared.

    Args:
        backend: The setting: a back end, or AUTO.
        bundles: The models to run.
        device: Where they run.
        threads: Threads of one inference.
    """
    # Only TensorRT is tried: its libraries may be missing though ONNX Runtime lists it. Others fail with a clear error.
    if backend == TENSORRT and (reason := why_unavailable(TENSORRT, torch.device(device), bundles)):
        log.warning("another back end takes TensorRT's place", reason=reason)
        backend = AUTO
    if backend != AUTO:
        return Choice(backend, "set by KDMRI_BACKEND")
    measure = partial(choose_fastest, bundles, device=torch.device(device), threads=threads)
    return Choice(**agree("backend", lambda: vars(measure())))


def operation_of(manifest: Manifest, operations: Sequence[type[Operation]]) -> type[Operation]:
    """Return the operation of a model's task. Raises CorruptBundle if there is none."""
    for operation in operations:
        if operation.task == manifest.task:
            return operation
    tasks = " or ".join(operation.task for operation in operations)
    raise CorruptBundle(f"model {manifest.reference}: expected the task {tasks}, got {manifest.task}")


def load_warm(
    bundle: Bundle, operation: type[Operation], *, device: str, threads: int, backend: str, inferences: int = 1
) -> Model:
    """Load a model and run it once, so that allocations and kernel choices precede the first request.

    Args:
        bundle: The verified model folder.
        operation: The operation that it is for; gives the input of the run.
        device: Where the model runs.
        threads: Threads of one inference.
        backend: What runs its networks.
        inferences: Number of inferences at a time.
    """
    model = load_model(bundle, device=device, threads=threads, inferences=inferences, backend=backend)
    operation.example(model.manifest).run(model)
    return model


def _announce(model: Model, operation: type[Operation]) -> None:
    manifest = model.manifest
    # Labels state where and how the model runs in fact, which may differ from the settings.
    labels = (manifest.name, manifest.version, manifest.role, manifest.task, model.backend, str(model.device))
    metrics.MODEL_INFO.labels(*labels).set(1)
    metrics.export_model_card(operation.name, manifest)
    log.info("model ready", model=manifest.reference, backend=model.backend, device=str(model.device))
