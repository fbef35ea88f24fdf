"""OpenTelemetry traces, where KDMRI_TRACES is set: a span for every request, under it one for every stage.

FastAPI makes the request's, `telemetry` the stages'. What goes where is said by OTEL_* (OTEL_EXPORTER_OTLP_ENDPOINT,
OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER and so on). Spans hold no more than log lines do: routes, statuses and stages.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from fastapi.telemetry import TelemetryConfig
from kdmri_service.errors import MissingTraces
from starlette.types import Scope

QUIET = ("/livez", "/readyz", "/metrics")
"""Asked every few seconds, and of interest to nobody."""


def of_requests(wanted: bool) -> TelemetryConfig:
    """FastAPI's own telemetry: spans alone. Its logs would quote errors, and with them what a file holds."""
    return {"tracing": wanted, "metrics": False, "logs": False, "operation_spans": False, "exclude": _quiet}


def _quiet(scope: Scope) -> bool:
    return scope.get("path") in QUIET


@contextmanager
def exported(wanted: bool) -> Iterator[None]:
    """Spans made inside are sent; what is left is sent at the end. Raises MissingTraces without the extra `traces`."""
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
        """What a client wrote into an address stays out; the route is told."""

        def on_start(self, span: Span, parent_context: object = None) -> None:
            for name in {"url.path", "url.query"} & set(span.attributes or ()):
                span.set_attribute(name, "withheld")

    os.environ.setdefault("OTEL_SERVICE_NAME", "kdmri")
    provider = TracerProvider()
    provider.add_span_processor(Withheld())
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    try:
        yield
    finally:
        provider.shutdown()
