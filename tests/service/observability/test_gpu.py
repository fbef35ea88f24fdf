"""Memory of graphics cards in the metrics."""

import pytest
import torch
from fastapi.testclient import TestClient
from kdmri_service.observability import gpu

from tests.service.transports.test_status import value

GIB = 2**30


def samples(*devices: str) -> dict[str, dict[str, float]]:
    families = gpu.Memory(lambda: devices).collect()
    return {family.name: {s.labels["device"]: s.value for s in family.samples} for family in families}


def test_models_on_a_processor_have_no_card(client: TestClient) -> None:
    assert "# TYPE kdmri_gpu_memory_used_bytes gauge" in client.get("/metrics").text
    assert value(client, "kdmri_gpu_memory_total_bytes") == 0
    assert samples("cpu") == {"kdmri_gpu_memory_used_bytes": {}, "kdmri_gpu_memory_total_bytes": {}}


def test_used_is_what_the_driver_does_not_call_free(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {"cuda:0": (60 * GIB, 80 * GIB), "cuda:1": (8 * GIB, 8 * GIB)}
    monkeypatch.setattr(torch.cuda, "mem_get_info", answers.__getitem__)
    assert samples("cpu", "cuda:0", "cuda:1") == {
        "kdmri_gpu_memory_used_bytes": {"cuda:0": 20 * GIB, "cuda:1": 0},
        "kdmri_gpu_memory_total_bytes": {"cuda:0": 80 * GIB, "cuda:1": 8 * GIB},
    }


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_tensor_on_the_card_counts() -> None:
    held = torch.ones(2**28, device="cuda")
    found = samples("cuda")
    assert held.nbytes <= found["kdmri_gpu_memory_used_bytes"]["cuda"] <= found["kdmri_gpu_memory_total_bytes"]["cuda"]
