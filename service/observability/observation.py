"""Observation: the clock of a request. It measures stages, opens their spans, and reports times to the metrics."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from kdmri_service.observability import metrics
from opentelemetry import context, trace

from kdmri.bundles.manifest import ROLES
from kdmri.operations.operation import BOTH
from kdmri.runtime.stages import StageName

TRACER = trace.get_tracer("kdmri")
"""Creates no spans until `traces.export_spans` configures where they go."""

LABELLED_ROLES = (*ROLES, BOTH)
MODEL_STAGES: tuple[StageName, ...] = ("sensitivities", "denoise", "data_consistency")
OK = 200
"""Status of a request that succeeded; the transport reports any other."""


class Observation:
    """Seconds of a request by stage. Call it with the name of a stage for a context that adds to that stage.

    Every request has one, and below it one for each role that it runs: time that these measure is added to the
    request's as well.
    """

    def __init__(self, operation: str = "unknown", role: str = "unknown", request: "Observation | None" = None) -> None:
        self.operation = operation
        self.role = role
        """The role requested, until the model that is chosen has another."""
        self.seconds: dict[StageName, float] = {}
        self.slices = 0
        self.stage: StageName | None = None
        """The stage that began last."""
        self.slices_done = 0
        """Slices that are done while the request runs; `slices` counts those of models that have ended."""
        self.slices_expected: int | None = None
        """Slices that all models together will make; unknown until the input is parsed."""
        self.runs: dict[str, Observation] = {}
        self._request = request
        # A batch may begin in its thread before the event loop has added the time in the queue.
        self._lock = threading.Lock()
        # Spans belong to this request, even where a thread that runs a batch opens them for another.
        self._trace = context.get_current()

    @contextmanager
    def __call__(self, stage: StageName, *, batch_size: int = 1) -> Iterator[None]:
        """Add the time spent inside to a stage.

        When a stage serves a batch, this request is charged 1/batch_size of the elapsed time; the rest is recorded as
        `queue`. A request's stages therefore still add up to its wall-clock time, and model time adds up over requests.

        Args:
            stage: Name of the stage.
            batch_size: Number of requests that the stage serves at once.
        """
        self._begin(stage)
        started = time.perf_counter()
        try:
            # The span must not record the error that may end it: its message may quote the input.
            with TRACER.start_as_current_span(
                stage, context=self._trace, record_exception=False, set_status_on_exception=False
            ):
                yield
        finally:
            seconds = time.perf_counter() - started
            self._add(stage, seconds / batch_size)
            if batch_size > 1:
                self._add("queue", seconds - seconds / batch_size)

    def _begin(self, stage: StageName) -> None:
        self.stage = stage
        if self._request:
            self._request._begin(stage)

    def count_slices(self, slices: int) -> None:
        """Count slices that the runtime has finished."""
        self.slices_done += slices

    def _add(self, stage: StageName, seconds: float) -> None:
        with self._lock:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds
        if self._request:
            self._request._add(stage, seconds)

    def run_of(self, role: str) -> "Observation":
        """Return the observation of this request's runs by the model of a role."""
        return self.runs.setdefault(role, Observation(self.operation, role, self))

    @property
    def model_seconds(self) -> float:
        """Seconds that the model took for all slices."""
        return sum(self.seconds.get(stage, 0.0) for stage in MODEL_STAGES)

    @property
    def seconds_per_slice(self) -> float:
        """Seconds that the model took per slice; needs at least one slice."""
        return self.model_seconds / self.slices

    def milliseconds(self) -> dict[str, float]:
        """Return the milliseconds of each stage."""
        return {name: round(1000 * seconds, 3) for name, seconds in self.seconds.items()}

    def server_timing(self) -> str:
        """Return the value of the Server-Timing header: one entry for each stage, in milliseconds."""
        return ", ".join(f"{stage};dur={1000 * seconds:.1f}" for stage, seconds in self.seconds.items())


@contextmanager
def track_request(
    operation: str,
    role: str,
    *,
    status_of: Callable[[BaseException], int],
    observation: Observation | None = None,
) -> Iterator[Observation]:
    """Count and time one request, however it ends.

    Args:
        operation: Name of the operation.
        role: The role requested; one that does not exist is counted as unknown.
        status_of: The transport's status for an error that ends the request.
        observation: One that somebody watches already; by default a new one.

    Yields:
        The observation that the request reports its stages to.
    """
    started = time.perf_counter()
    # A label is a series for ever: what a client makes up must not become one.
    observation = observation or Observation(operation)
    observation.role = role if role in LABELLED_ROLES else "unknown"
    status = OK
    try:
        yield observation
    except BaseException as error:
        status = status_of(error)
        raise
    finally:
        role = observation.role
        metrics.REQUESTS.labels(operation, role, str(status)).inc()
        metrics.REQUEST_DURATION.labels(operation, role).observe(time.perf_counter() - started)
        for stage, seconds in observation.seconds.items():
            metrics.STAGE_DURATION.labels(operation, role, stage).observe(seconds)
        for run in observation.runs.values() if status == OK else ():
            metrics.SLICES.labels(operation, run.role).inc(run.slices)
            metrics.SLICE_DURATION.labels(operation, run.role).observe(run.seconds_per_slice)
