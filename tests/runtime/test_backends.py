from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from kdmri.bundle import Bundle
from kdmri.errors import InvalidRequest
from kdmri.records import Images
from kdmri.runtime import Reconstructor, SuperResolver, backends
from kdmri.runtime.backends import ONNXRUNTIME, OPENVINO, OPENVINO_BF16, Choice, fastest, in_hardware, offered
from kdmri.runtime.model import load_model
from tests.scans import phantom, scan

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
    assert offered(manifests["unknown"], CPU) == [ONNXRUNTIME, OPENVINO]
    assert offered(manifests["dear"], CPU) == [ONNXRUNTIME, OPENVINO]
    assert (OPENVINO_BF16 in offered(manifests["cheap"], CPU)) == in_hardware("bf16")


def test_without_openvino_there_is_no_choice(bundles: list[Bundle], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "find_spec", lambda _: None)
    assert fastest(bundles, device=CPU, threads=1) == Choice(ONNXRUNTIME, "the only one offered here")
    with pytest.raises(InvalidRequest, match=r"expected a CPU and the extra kdmri\[openvino\]"):
        load_model(bundles[0], backend=OPENVINO)


def test_an_unknown_back_end_is_refused(bundles: list[Bundle]) -> None:
    with pytest.raises(
        InvalidRequest, match="expected back end onnxruntime, openvino, openvino-bf16 or auto, got 'abacus'"
    ):
        load_model(bundles[0], backend="abacus")


def test_the_fastest_is_chosen_and_the_reason_names_all(bundles: list[Bundle], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "offered", lambda *_: [ONNXRUNTIME, OPENVINO])
    monkeypatch.setattr(backends, "denoiser", lambda _, name, **__: name)
    monkeypatch.setattr(backends, "_milliseconds", lambda run, _: {ONNXRUNTIME: 5.0, OPENVINO: 3.0}[run])
    choice = fastest(bundles, device=CPU, threads=1)
    assert choice.backend == OPENVINO
    assert "onnxruntime 5.0 ms, openvino 3.0 ms" in choice.reason
