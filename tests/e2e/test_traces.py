"""Traces as a collector receives them."""

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from pydicom.data import get_testdata_file

from kdmri.bundles.store import Bundle
from tests.e2e import quick_models
from tests.e2e.serving import PATIENCE, serving

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="the extra `traces` is not installed")

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@pytest.fixture
def collector() -> Iterator[tuple[str, list[bytes]]]:
    """An address that takes OTLP over HTTP, and what it took."""
    taken: list[bytes] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            taken.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever).start()
    yield f"http://127.0.0.1:{server.server_port}", taken
    server.shutdown()


def test_stages_are_spans_of_their_request(collector, bundles: list[Bundle], tmp_path: Path) -> None:
    address, taken = collector
    models = quick_models.write(bundles, tmp_path / "models")
    settings = {"KDMRI_MODELS": str(models), "KDMRI_TRACES": "1", "KDMRI_SHADOW_RATE": "0"}
    mr = Path(get_testdata_file("MR_small.dcm")).read_bytes()
    with serving(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=address, OTEL_EXPORTER_OTLP_COMPRESSION="none", **settings) as s:
        kind = {"content-type": "application/dicom"}
        for _ in range(2):
            assert httpx2.post(f"{s.address}/super-resolve?scale=2", content=mr, headers=kind).is_success
        # A parameter that does not exist is refused; its name and value must not reach a span either.
        refused = httpx2.post(f"{s.address}/super-resolve?scale=2&patient=Doe", content=mr, headers=kind)
        assert refused.status_code == 400
        httpx2.get(f"{s.address}/patients/Doe", timeout=PATIENCE)
        s.stop()
    received = [ExportTraceServiceRequest.FromString(body) for body in taken]
    spans = [
        span for r in received for resource in r.resource_spans for sc in resource.scope_spans for span in sc.spans
    ]
    requests = [span for span in spans if span.name == "POST /super-resolve"]
    assert len(requests) == 3
    stages = [frozenset(span.name for span in spans if span.parent_span_id == request.span_id) for request in requests]
    answered = frozenset({"parse", "queue", "denoise", "data_consistency", "encode"})
    assert sorted(stages, key=len) == [frozenset(), answered, answered]
    assert not any(b"Doe" in body for body in taken)
    assert not any(quiet in span.name for span in spans for quiet in ("readyz", "metrics"))
