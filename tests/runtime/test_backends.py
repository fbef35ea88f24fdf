import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import onnxruntime
import pytest
import torch
from kdmri_service.settings import Settings

from kdmri.bundles.manifest import cascade_file
from kdmri.bundles.store import Bundle
from kdmri.data.images import Images
from kdmri.errors import InvalidRequest
from kdmri.phantoms import phantom, scan
from kdmri.runtime import Reconstructor, SuperResolver
from kdmri.runtime.backends import selection as backends
from kdmri.runtime.backends import tensorrt
from kdmri.runtime.backends.onnx import CPU as CPU_PROVIDER
from kdmri.runtime.backends.onnx import CUDA as CUDA_PROVIDER
from kdmri.runtime.backends.onnx import TENSORRT as TENSORRT_PROVIDER
from kdmri.runtime.backends.onnx import providers
from kdmri.runtime.backends.selection import (
    BACKENDS,
    ONNXRUNTIME,
    OPENVINO,
    OPENVINO_BF16,
    TENSORRT,
    Choice,
    available_backends,
    choose_fastest,
    cpu_supports,
    denoiser,
    why_unavailable,
)
from kdmri.runtime.model import load_model

CPU = torch.device("cpu")


def claiming(bundles: Sequence[Bundle], loss: dict[str, float]) -> list[Bundle]:
    return [replace(b, manifest=b.manifest.model_copy(update={"precision_loss": loss})) for b in bundles]


@pytest.mark.parametrize("task", ["reconstruction", "super-resolution"])
@pytest.mark.parametrize(("backend", "tolerance"), [(OPENVINO, 1e-5), (OPENVINO_BF16, 1e-2)])
def test_every_back_end_gives_one_image(bundles: list[Bundle], task: str, backend: str, tolerance: float) -> None:
    pytest.importorskip("openvino", reason="the extra kdmri[openvino] is not installed")
    bundle = next(b for b in bundles if b.manifest.task == task)
    for shape in ((64, 48), (61, 73)):
        reference, other = (load_model(bundle, backend=name) for name in (ONNXRUNTIME, backend))
        if task == "reconstruction":
            measured = scan(phantom(*shape), acceleration=3, coils=4)
            expected, found = (Reconstructor(m).reconstruct(measured).pixels for m in (reference, other))
        else:
            expected, found = (
                SuperResolver(m).super_resolve(Images(phantom(*shape)), 2).pixels for m in (reference, other)
            )
        assert np.linalg.norm(found - expected) <= tolerance * np.linalg.norm(expected)


@pytest.mark.parametrize("backend", [ONNXRUNTIME, OPENVINO])
def test_several_inferences_at_a_time_do_not_mix(bundles: list[Bundle], backend: str) -> None:
    if backend == OPENVINO:
        pytest.importorskip("openvino", reason="the extra kdmri[openvino] is not installed")
    bundle = next(b for b in bundles if b.manifest.task == "reconstruction")
    model = Reconstructor(load_model(bundle, backend=backend, inferences=3))
    scans = [scan(phantom(48 + 4 * number, 64), acceleration=3) for number in range(6)]
    alone = [model.reconstruct(one).pixels for one in scans]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda one: model.reconstruct(one).pixels, scans))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(other, one, atol=1e-6)


def test_reduced_precision_is_offered_only_where_the_card_says_what_it_costs(bundles: list[Bundle]) -> None:
    pytest.importorskip("openvino", reason="the extra kdmri[openvino] is not installed")
    manifests = {
        name: [b.manifest for b in claiming(bundles, loss)]
        for name, loss in {"unknown": {}, "dear": {"bf16": 0.06}, "cheap": {"bf16": 0.04}}.items()
    }
    assert available_backends(manifests["unknown"], CPU) == [ONNXRUNTIME, OPENVINO]
    assert available_backends(manifests["dear"], CPU) == [ONNXRUNTIME, OPENVINO]
    assert (OPENVINO_BF16 in available_backends(manifests["cheap"], CPU)) == cpu_supports("bf16")


def test_without_openvino_there_is_no_choice(bundles: list[Bundle], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "find_spec", lambda _: None)
    assert choose_fastest(bundles, device=CPU, threads=1) == Choice(ONNXRUNTIME, "the only one offered here")
    with pytest.raises(InvalidRequest, match=r"expected a CPU and the extra kdmri\[openvino\]"):
        load_model(bundles[0], backend=OPENVINO)


def test_an_unknown_back_end_is_refused(bundles: list[Bundle]) -> None:
    with pytest.raises(
        InvalidRequest, match="expected back end onnxruntime, tensorrt, openvino, openvino-bf16 or auto, got 'abacus'"
    ):
        load_model(bundles[0], backend="abacus")


def test_the_fastest_is_chosen_and_the_reason_names_all(bundles: list[Bundle], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "available_backends", lambda *_: [ONNXRUNTIME, OPENVINO])
    monkeypatch.setattr(backends, "denoiser", lambda _, name, **__: name)
    monkeypatch.setattr(backends, "_milliseconds", lambda run, _: {ONNXRUNTIME: 5.0, OPENVINO: 3.0}[run])
    choice = choose_fastest(bundles, device=CPU, threads=1)
    assert choice.backend == OPENVINO
    assert "onnxruntime 5.0 ms, openvino 3.0 ms" in choice.reason


def test_every_back_end_is_a_setting() -> None:
    assert get_args(Settings.model_fields["backend"].annotation) == ("auto", *BACKENDS)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("backend", [ONNXRUNTIME, TENSORRT])
def test_a_device_that_is_not_there_is_told_from_a_back_end_that_is_not(
    bundles: list[Bundle], monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    card = torch.device("cuda")
    assert why_unavailable(backend, card, bundles) == "torch finds no CUDA device"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    if CUDA_PROVIDER not in onnxruntime.get_available_providers():
        assert why_unavailable(backend, card, bundles) == (
            "this ONNX Runtime has no CUDAExecutionProvider: expected onnxruntime-gpu in its place"
        )


def test_tensorrt_takes_a_gpu(bundles: list[Bundle]) -> None:
    assert why_unavailable(TENSORRT, CPU, bundles) == "back end tensorrt: expected a CUDA device, got cpu"
    assert TENSORRT not in available_backends([b.manifest for b in bundles], CPU)


def test_tensorrt_is_offered_where_onnxruntime_knows_it_and_left_out_where_it_does_not_load(
    bundles: list[Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    card, manifests = torch.device("cuda"), [b.manifest for b in bundles]
    for known, expected in (([CUDA_PROVIDER], [ONNXRUNTIME]), ([TENSORRT_PROVIDER], [ONNXRUNTIME, TENSORRT])):
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda known=known: known)
        assert available_backends(manifests, card) == expected
    if not torch.cuda.is_available():
        expected = "the only one offered here; without tensorrt: torch finds no CUDA device"
        assert choose_fastest(bundles, device=card, threads=1) == Choice(ONNXRUNTIME, expected)


@pytest.mark.parametrize("index", [None, 0, 1])
def test_providers_share_one_stream_of_one_card_in_single_precision(bundles: list[Bundle], index: int | None) -> None:
    card = torch.device("cuda", index)
    file = bundles[0].folder / cascade_file(1)
    engine = tensorrt.options(tensorrt.engines(file), 2)
    (first, of_engine), (second, of_cuda), (last, of_cpu) = providers(card, 2**40, engine)
    assert (first, second, last, of_cpu) == (TENSORRT_PROVIDER, CUDA_PROVIDER, CPU_PROVIDER, {})
    assert providers(card, 2**40) == [(CUDA_PROVIDER, of_cuda), (CPU_PROVIDER, {})]
    for options in (of_engine, of_cuda):
        assert options["user_compute_stream"] == str(2**40)
        assert options.get("device_id", "0") == str(index or 0)
        assert all(type(value) is str for value in options.values())
    assert of_cuda["use_tf32"] == "0"
    assert of_engine["trt_fp16_enable"] == "False"


def test_tf32_is_off_unless_the_operator_chose_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    tensorrt.forbid_tf32()
    assert os.environ["NVIDIA_TF32_OVERRIDE"] == "0"
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    tensorrt.forbid_tf32()
    assert os.environ["NVIDIA_TF32_OVERRIDE"] == "1"


def test_an_engine_is_built_for_sizes_of_the_graph_and_run_on_no_others(bundles: list[Bundle]) -> None:
    for bundle in bundles:
        (image,) = denoiser(bundle.folder / cascade_file(1), ONNXRUNTIME, device=CPU, threads=1).session.get_inputs()
        options = tensorrt.options(Path("engines"), image.shape[-1])
        profiles = [options[f"trt_profile_{which}_shapes"] for which in ("min", "opt", "max")]
        assert all(profile.startswith(f"{image.name}:") for profile in profiles)
        least, usual, most = ([int(n) for n in profile.split(":")[1].split("x")] for profile in profiles)
        assert all(low <= middle <= high for low, middle, high in zip(least, usual, most, strict=True))
        assert [sizes[-1] for sizes in (least, usual, most)] == [image.shape[-1]] * 3
        rows, columns = most[1:3]
        assert tensorrt.built_for(rows, columns)
        assert tensorrt.built_for(*least[1:3])
        assert not tensorrt.built_for(rows + 1, columns)
        assert not tensorrt.built_for(rows, least[2] - 1)


def test_an_engine_is_found_by_weights_not_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    files = [tmp_path / version / cascade_file(1) for version in ("1", "2", "3")]
    for file, weights in zip(files, (b"old", b"new", b"old"), strict=True):
        file.parent.mkdir()
        file.write_bytes(weights)
    old, new, same = map(tensorrt.engines, files)
    assert old == same != new
    assert old.is_relative_to(tmp_path)
