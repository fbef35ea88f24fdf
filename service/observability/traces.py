"""OpenTelemetry traces, if KDMRI_TRACES is set: a span for every request, and under it one for every stage.

FastAPI opens the span of a request, `observation` those of its stages. The standard variables OTEL_* configure the
export (OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER and so on). Spans contain no more than log
lines do: routes, statuses and stages.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from fastapi.telemetry import TelemetryConfig
from kdmri_service.errors import MissingTraces
from starlette.types import Scope

QUIET = ("/livez", "/readyz", "/metrics")
"""Routes that orchestrators and Prometheus poll every few seconds: neither traced nor logged."""


def of_requests(wanted: bool) -> TelemetryConfig:
    """Return the configuration of FastAPI's telemetry: spans only, since its logs quote errors and so files."""
    return {"tracing": wanted, "metrics": False, "logs": False, "operation_spans": False, "exclude": _quiet}


def _quiet(scope: Scope) -> bool:
    return scope.get("path") in QUIET


@contextmanager
def export_spans(wanted: bool) -> Iterator[None]:
    """Export the spans opened inside, the last of them at the end. Raises MissingTraces without the extra `traces`."""
    if not wanted:
        yield
        return
    try:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace import Span, SpanProcessor, TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as error:
        raise MissingTraces(
            f"KDMRI_TRACES: expected the package {error.name}, it is not there: pip install 'kdmri[traces]'"
        ) from None

    class Withheld(SpanProcessor):
        """Removes the address, which may contain anything that a client wrote; the route's pattern stays."""

        def on_start(self, span: Span, parent_context: object = None) -> None:
            for name in {"url.path", "url.query"} & set(span.attributes or ()):
                span.set_attribute(name, "withheld")

    # The SDK reads this variable when the provider is made, and would name the service `unknown_service` without it.
    os.environ.setdefault("OTEL_SERVICE_NAME", "kdmri")
    provider = TracerProvider()
    # Before the exporter: processors run in the order in which they were added.
    provider.add_span_processor(Withheld())
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    try:
        yield
    finally:
        provider.shutdown()
