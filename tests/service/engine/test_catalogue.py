import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from fastapi.testclient import TestClient
from kdmri_service.app import create_app
from kdmri_service.engine.workers import agree
from kdmri_service.observability import multiprocess
from kdmri_service.settings import CORES, Settings
from prometheus_client.parser import text_string_to_metric_families

from kdmri.errors import InvalidRequest
from kdmri.runtime.backends import selection as backends
from tests.service.shadow.test_shadow import compared_again


def exported(client: TestClient, label: str) -> set[str]:
    """What kdmri_model_info says of all models."""
    families = text_string_to_metric_families(client.get("/metrics").text)
    return {s.labels[label] for family in families for s in family.samples if s.name == "kdmri_model_info"}


def logged(output: str, event: str) -> list[dict]:
    return [line for line in map(json.loads, output.splitlines()) if line["event"] == event]


def test_one_back_end_is_chosen_for_all_models_and_the_reason_is_logged(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = []
    monkeypatch.setattr(backends, "_milliseconds", lambda run, _: measured.append(run.backend) or len(measured))
    with TestClient(create_app(Settings(shadow_rate=0))) as client:
        assert exported(client, "backend") == {"CPUExecutionProvider"}
    (line,) = logged(capsys.readouterr().out, "back end chosen")
    assert line["backend"] == "onnxruntime"
    assert "dc-cnn-student@" in line["reason"] or line["reason"] == "the only one offered here"
    assert len(measured) == len(set(measured))


def test_the_back_end_that_is_set_runs_live_requests_and_the_shadows(
    kspace_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("openvino", reason="the extra kdmri[openvino] is not installed")
    with TestClient(create_app(Settings(backend="openvino", shadow_rate=1))) as client:
        assert exported(client, "backend") == {"OpenVINO"}
        assert compared_again(client, kspace_file) == 1
        libraries = Path(f"/proc/{client.app.state.service.shadow._process.pid}/maps")
        assert not libraries.exists() or "libopenvino_intel_cpu_plugin" in libraries.read_text()
    (line,) = logged(capsys.readouterr().out, "back end chosen")
    assert line["reason"] == "set by KDMRI_BACKEND"


def test_a_back_end_that_is_not_there_is_refused_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "find_spec", lambda _: None)
    with (
        pytest.raises(InvalidRequest, match=r"expected a CPU and the extra kdmri\[openvino\], got no openvino"),
        TestClient(create_app(Settings(backend="openvino"))),
    ):
        pass


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_processor_answers_and_the_log_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    with TestClient(create_app(Settings(device="cuda", shadow_rate=0))) as client:
        assert exported(client, "device") == {"cpu"}
    (line,) = logged(capsys.readouterr().out, "the processor takes the device's place")
    assert line["reason"] == "torch finds no CUDA device"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_without_tensorrt_another_back_end_answers_and_the_log_says_why(
    device: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with TestClient(create_app(Settings(device=device, backend="tensorrt", shadow_rate=0))) as client:
        assert exported(client, "device") == {"cpu"}
        assert client.get("/readyz").is_success
    output = capsys.readouterr().out
    (line,) = logged(output, "another back end takes TensorRT's place")
    assert line["reason"] == "back end tensorrt: expected a CUDA device, got cpu"
    assert len(logged(output, "the processor takes the device's place")) == (device == "cuda")
    (choice,) = logged(output, "back end chosen")
    assert choice["backend"] != "tensorrt"


def test_workers_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(multiprocess.FOLDER, str(tmp_path))
    with multiprocess.shared_metrics(), ThreadPoolExecutor(8) as workers:
        answers = list(workers.map(lambda n: agree("back end", lambda: {"worker": str(n)}), range(8)))
        assert len({answer["worker"] for answer in answers}) == 1
        # One that is started later, in the place of another one, is told the same.
        code = "from kdmri_service.engine.workers import agree; print(agree('back end', dict)['worker'])"
        later = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert later.stdout.strip() == answers[0]["worker"]
    with multiprocess.shared_metrics():
        assert agree("back end", lambda: {"worker": "new"}) == {"worker": "new"}


@pytest.mark.parametrize(("workers", "inferences"), [(1, 1), (2, 1), (1, 3), (4, 64)])
def test_no_two_inferences_want_one_core(workers: int, inferences: int) -> None:
    each = Settings(workers=workers, inferences=inferences).inference_threads
    assert each >= 1
    assert each == 1 or each * workers * inferences <= CORES
    assert Settings(workers=workers, inferences=inferences, threads=5).inference_threads == 5
