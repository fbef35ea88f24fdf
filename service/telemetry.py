"""The one place that measures time and counts. Names and labels are those of the design; prefix kdmri_."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.exposition import choose_encoder

from kdmri.bundle import ROLES
from kdmri.runtime.stages import StageName
from service.errors import status_of

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)

# Edges on the targets: a slice in tens of milliseconds, an interactive answer below a second, a series below a minute.
REQUEST_SECONDS = (0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
SLICE_SECONDS = (0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.125, 0.15, 0.2, 0.3, 0.5, 1, 2.5, 10)
STAGE_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60)

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
QUEUE_DEPTH = Gauge("kdmri_queue_depth", "Requests that wait for a worker.", registry=REGISTRY)
QUEUE_CAPACITY = Gauge("kdmri_queue_capacity", "Requests that may wait for a worker.", registry=REGISTRY)
IN_PROGRESS = Gauge("kdmri_in_progress", "Requests that a worker is busy with.", registry=REGISTRY)
MODEL_INFO = Gauge(
    "kdmri_model_info",
    "1 for every model served.",
    ["name", "version", "role", "task", "backend", "device"],
    registry=REGISTRY,
)

MODEL_STAGES: tuple[StageName, ...] = ("sensitivities", "denoise", "data_consistency")


class Observation:
    """Where one request's time went. Call it with a stage's name for a context that adds to that stage."""

    def __init__(self) -> None:
        self.seconds: dict[StageName, float] = {}
        self.slices = 0

    @contextmanager
    def __call__(self, stage: StageName) -> Iterator[None]:
        """Time spent inside belongs to `stage`."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - started

    @property
    def model_seconds(self) -> float:
        """Time that the model took for all slices."""
        return sum(self.seconds.get(stage, 0.0) for stage in MODEL_STAGES)

    def server_timing(self) -> str:
        """The Server-Timing header: one entry a stage, in milliseconds."""
        return ", ".join(f"{stage};dur={1000 * seconds:.1f}" for stage, seconds in self.seconds.items())


@contextmanager
def observed(operation: str, role: str) -> Iterator[Observation]:
    """Count and time one request, whatever becomes of it."""
    role = role if role in ROLES else "unknown"
    started = time.perf_counter()
    observation = Observation()
    status = HTTPStatus.OK
    try:
        yield observation
    except BaseException as error:
        status = status_of(error)
        raise
    finally:
        REQUESTS.labels(operation, role, str(status.value)).inc()
        REQUEST_DURATION.labels(operation, role).observe(time.perf_counter() - started)
        for stage, seconds in observation.seconds.items():
            STAGE_DURATION.labels(operation, role, stage).observe(seconds)
        if observation.slices and status == HTTPStatus.OK:
            SLICES.labels(operation, role).inc(observation.slices)
            SLICE_DURATION.labels(operation, role).observe(observation.model_seconds / observation.slices)


def exposition(accept: str | None) -> tuple[bytes, str]:
    """The metrics, and their Content-Type: OpenMetrics for a scraper that accepts it, else Prometheus' text format."""
    encode, kind = choose_encoder(accept or "")
    return encode(REGISTRY), kind
