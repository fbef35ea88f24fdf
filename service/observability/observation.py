"""The one place that measures time and counts. Names and labels are those of the design; prefix kdmri_."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path

from kdmri_service.observability import gpu
from kdmri_service.observability import multiprocess as processes
from kdmri_service.transports.http.problems import status_of
from opentelemetry import context, trace
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
)
from prometheus_client.exposition import choose_encoder

from kdmri.bundles.manifest import ROLES, Manifest, Task
from kdmri.quality import no_reference as quality
from kdmri.quality.comparison import Comparison
from kdmri.quality.no_reference import Quality
from kdmri.runtime.stages import StageName

TRACER = trace.get_tracer("kdmri")
"""Does nothing until `traces` says where spans go."""

REGISTRY = CollectorRegistry()
REGISTRY.register(processes.Together(processes.with_children))
PlatformCollector(registry=REGISTRY)

# Edges on the targets: a slice in tens of milliseconds, an interactive answer below a second, a series below a minute.
REQUEST_SECONDS = (0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
SLICE_SECONDS = (0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.125, 0.15, 0.2, 0.3, 0.5, 1, 2.5, 5, 10)
PSNR_DB = (15, 20, 25, 27.5, 30, 32.5, 35, 37.5, 40, 42.5, 45, 50, 60, 80, 100)
SSIM = (0.5, 0.7, 0.8, 0.85, 0.9, 0.925, 0.95, 0.96, 0.97, 0.98, 0.99, 0.995, 0.999, 1)
SPEEDUP = (0.5, 1, 1.3, 1.5, 1.7, 1.9, 2.1, 2.4, 2.7, 3, 3.5, 4, 4.7, 5.5, 6.5, 7.5, 8.7, 10, 13, 16, 20)
RESIDUAL_RATIO = (1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.5, 1)
NOISE_RATIO = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.04, 0.06, 0.08, 0.1, 0.15, 0.25, 0.5)
OCTAVES = (0, 0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 8)
STAGE_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60)

OPERATIONS: dict[Task, str] = {"reconstruction": "reconstruct", "super-resolution": "super_resolve"}
REQUESTS = Counter("kdmri_requests", "Requests answered.", ["operation", "role", "status"], registry=REGISTRY)
REQUEST_DURATION = Histogram(
    "kdmri_request_duration_seconds",
    "Time from the request's first byte to the answer's.",
    ["operation", "role"],
    buckets=REQUEST_SECONDS,
    registry=REGISTRY,
)
STAGE_DURATION = Histogram(
    "kdmri_stage_duration_seconds",
    "Time of a request spent in one stage.",
    ["operation", "role", "stage"],
    buckets=STAGE_SECONDS,
    registry=REGISTRY,
)
SLICE_DURATION = Histogram(
    "kdmri_slice_duration_seconds",
    "Model time per slice: sensitivities, denoising and data consistency.",
    ["operation", "role"],
    buckets=SLICE_SECONDS,
    registry=REGISTRY,
)
SLICES = Counter("kdmri_slices", "Slices answered.", ["operation", "role"], registry=REGISTRY)
QUEUE_DEPTH = Gauge(
    "kdmri_queue_depth", "Requests that wait for their turn.", registry=REGISTRY, multiprocess_mode="livesum"
)
QUEUE_CAPACITY = Gauge(
    "kdmri_queue_capacity", "Requests that may wait for their turn.", registry=REGISTRY, multiprocess_mode="livesum"
)
IN_PROGRESS = Gauge(
    "kdmri_in_progress", "Requests that a model is busy with.", registry=REGISTRY, multiprocess_mode="livesum"
)
BATCH_SIZE = Histogram(
    "kdmri_batch_size",
    "Requests that shared an inference.",
    buckets=(1, 2, 4, 8, 16, 32, 64),
    registry=REGISTRY,
)
MODEL_INFO = Gauge(
    "kdmri_model_info",
    "1 for every model served.",
    ["name", "version", "role", "task", "backend", "device"],
    registry=REGISTRY,
    multiprocess_mode="livemax",
)


def _devices() -> list[str]:
    return sorted({sample.labels["device"] for metric in MODEL_INFO.collect() for sample in metric.samples})


GPU_MEMORY = gpu.Memory(_devices)
REGISTRY.register(GPU_MEMORY)
AGREEMENT_PSNR = Gauge(
    "kdmri_model_agreement_psnr_db",
    "What a student's card states: PSNR of its images, its teacher's as the reference, on the test split.",
    ["operation", "name", "version", "condition"],
    registry=REGISTRY,
    multiprocess_mode="livemax",
)
AGREEMENT_SSIM = Gauge(
    "kdmri_model_agreement_ssim",
    "What a student's card states: structural similarity of its images to its teacher's on the test split.",
    ["operation", "name", "version", "condition"],
    registry=REGISTRY,
    multiprocess_mode="livemax",
)
SHADOW_PSNR = Histogram(
    "kdmri_shadow_psnr_db",
    "PSNR of the student's answer, the teacher's as the reference.",
    ["operation"],
    buckets=PSNR_DB,
    registry=REGISTRY,
)
SHADOW_SSIM = Histogram(
    "kdmri_shadow_ssim",
    "Structural similarity of the student's answer to the teacher's.",
    ["operation"],
    buckets=SSIM,
    registry=REGISTRY,
)
SHADOW_SPEEDUP = Histogram(
    "kdmri_shadow_speedup_ratio",
    "The teacher's time per slice over the student's, both run in the shadow, where no live request came in between.",
    ["operation"],
    buckets=SPEEDUP,
    registry=REGISTRY,
)
SHADOW_DROPPED = Counter(
    "kdmri_shadow_dropped", "Sampled requests that there was no room to run again.", registry=REGISTRY
)
for operation in OPERATIONS.values():
    # There before anything is observed: what appears with its first value is no increase to Prometheus.
    for histogram in (SHADOW_PSNR, SHADOW_SSIM, SHADOW_SPEEDUP):
        histogram.labels(operation)
RESIDUAL = Histogram(
    "kdmri_quality_residual_ratio",
    "Share of what was measured that is not in the answer, as a ratio of norms.",
    ["operation", "role"],
    buckets=RESIDUAL_RATIO,
    registry=REGISTRY,
)
NOISE = Histogram(
    "kdmri_quality_noise_ratio",
    "Standard deviation of the input's noise, relative to bright tissue.",
    ["operation"],
    buckets=NOISE_RATIO,
    registry=REGISTRY,
)
DISTANCE = Histogram(
    "kdmri_quality_distance_octaves",
    "Factors of two by which an input lies outside what the model was trained on; 0 inside.",
    ["operation", "quantity"],
    buckets=OCTAVES,
    registry=REGISTRY,
)
WARNED = Counter(
    "kdmri_quality_warnings", "Answers that carry a KDMRI-Warning.", ["operation", "role"], registry=REGISTRY
)

BOTH = "both"
LABELLED_ROLES = (*ROLES, BOTH)

MODEL_STAGES: tuple[StageName, ...] = ("sensitivities", "denoise", "data_consistency")


class Observation:
    """Where time went. Call it with a stage's name for a context that adds to that stage.

    A request has one, and under it one for each model that it ran: what these see, the request's sees as well.
    """

    def __init__(self, operation: str = "unknown", role: str = "unknown", request: "Observation | None" = None) -> None:
        self.operation = operation
        self.role = role
        """The one asked for, until the model that is chosen has another."""
        self.seconds: dict[StageName, float] = {}
        self.slices = 0
        self.runs: dict[str, Observation] = {}
        self._request = request
        # A batch may begin in its thread before the event loop has counted the time in the queue.
        self._counting = threading.Lock()
        # Where spans belong, whichever request's thread they are made in.
        self._trace = context.get_current()

    @contextmanager
    def __call__(self, stage: StageName, *, company: int = 1) -> Iterator[None]:
        """Time spent inside belongs to `stage`.

        Of time spent on a `company` of requests at once, this one's share does. The others' shares are time that it
        waits: they belong to `queue`. So stages add up to the time that passed, and model time adds up over requests.
        """
        started = time.perf_counter()
        try:
            # Without the error that may end it: its message may quote the input.
            with TRACER.start_as_current_span(
                stage, context=self._trace, record_exception=False, set_status_on_exception=False
            ):
                yield
        finally:
            seconds = time.perf_counter() - started
            self._add(stage, seconds / company)
            if company > 1:
                self._add("queue", seconds - seconds / company)

    def _add(self, stage: StageName, seconds: float) -> None:
        with self._counting:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds
        if self._request:
            self._request._add(stage, seconds)

    def run_of(self, role: str) -> "Observation":
        """What this request's model of a role takes, over all inputs of the request."""
        return self.runs.setdefault(role, Observation(self.operation, role, self))

    @property
    def model_seconds(self) -> float:
        """Time that the model took for all slices."""
        return sum(self.seconds.get(stage, 0.0) for stage in MODEL_STAGES)

    def server_timing(self) -> str:
        """The Server-Timing header: one entry a stage, in milliseconds."""
        return ", ".join(f"{stage};dur={1000 * seconds:.1f}" for stage, seconds in self.seconds.items())


def stated(manifest: Manifest) -> None:
    """Export what a student's card says of its agreement with its teacher."""
    for condition, figures in manifest.agreement.items():
        labels = (OPERATIONS[manifest.task], manifest.name, manifest.version, condition)
        AGREEMENT_PSNR.labels(*labels).set(figures["psnr"])
        AGREEMENT_SSIM.labels(*labels).set(figures["ssim"])


@contextmanager
def observed(operation: str, role: str) -> Iterator[Observation]:
    """Count and time one request, whatever becomes of it."""
    started = time.perf_counter()
    observation = Observation(operation, role if role in LABELLED_ROLES else "unknown")
    status = HTTPStatus.OK
    try:
        yield observation
    except BaseException as error:
        status = status_of(error)
        raise
    finally:
        role = observation.role
        REQUESTS.labels(operation, role, str(status.value)).inc()
        REQUEST_DURATION.labels(operation, role).observe(time.perf_counter() - started)
        for stage, seconds in observation.seconds.items():
            STAGE_DURATION.labels(operation, role, stage).observe(seconds)
        for run in observation.runs.values() if status == HTTPStatus.OK else ():
            SLICES.labels(operation, run.role).inc(run.slices)
            SLICE_DURATION.labels(operation, run.role).observe(run.model_seconds / run.slices)


def assessed(operation: str, manifest: Manifest, found: Quality) -> None:
    """Count what is known of an answer's quality."""
    RESIDUAL.labels(operation, manifest.role).observe(found.residual)
    NOISE.labels(operation).observe(found.noise)
    for quantity, octaves in quality.distances(found, manifest).items():
        DISTANCE.labels(operation, quantity).observe(octaves)
    if quality.warnings(found, manifest):
        WARNED.labels(operation, manifest.role).inc()


def shadowed(operation: str, comparison: Comparison, *, timed: bool) -> None:
    """Count one shadow comparison; its speed-up only where it was `timed` undisturbed."""
    SHADOW_PSNR.labels(operation).observe(comparison.psnr_db)
    if comparison.ssim is not None:
        SHADOW_SSIM.labels(operation).observe(comparison.ssim)
    if timed:
        SHADOW_SPEEDUP.labels(operation).observe(comparison.speedup)


def exposition(accept: str | None) -> tuple[bytes, str]:
    """The metrics of all worker processes, and their Content-Type: OpenMetrics for a scraper that accepts it."""
    encode, kind = choose_encoder(accept or "")
    if not (shared := os.environ.get(processes.FOLDER)):
        return encode(REGISTRY), kind
    of_all = processes.registry_of_all(Path(shared))
    # The driver says the same to every worker.
    of_all.register(GPU_MEMORY)
    return encode(of_all), kind
