"""Which back end runs the denoisers: what this machine offers, and the fastest of it, by a short measurement."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import onnxruntime
import torch

from kdmri.bundles.manifest import Manifest, cascade_file
from kdmri.bundles.store import Bundle
from kdmri.errors import InvalidRequest
from kdmri.runtime.backends import onnx
from kdmri.runtime.backends.denoiser import Denoiser
from kdmri.runtime.backends.onnx import OnnxDenoiser

ONNXRUNTIME, TENSORRT, OPENVINO, OPENVINO_BF16 = BACKENDS = ("onnxruntime", "tensorrt", "openvino", "openvino-bf16")
TOLERATED_LOSS = 0.05
"""PSNR in dB that reduced precision may cost on the test split; see Manifest.precision_loss."""
SIDE = 256
"""Rows and columns of the image that back ends are compared on."""
RUNS = 3


@dataclass(frozen=True)
class Choice:
    """A back end and why it was chosen."""

    backend: str
    reason: str


def denoiser(file: Path, backend: str, *, device: torch.device, threads: int, inferences: int = 1) -> Denoiser:
    """A cascade's network on a back end, ready for so many `inferences` at a time of so many `threads` each.

    Raises InvalidRequest where this machine does not offer it.
    """
    if backend == ONNXRUNTIME:
        return OnnxDenoiser(file, device=device, threads=threads)
    if backend not in BACKENDS:
        raise InvalidRequest(f"expected back end {', '.join(BACKENDS)} or auto, got {backend[:40]!r}")
    if backend == TENSORRT:
        if device.type == "cpu":
            raise InvalidRequest(f"back end {backend}: expected a CUDA device, got cpu")
        from kdmri.runtime.backends.tensorrt import TensorRtDenoiser

        return TensorRtDenoiser(file, device=device, threads=threads)
    if device.type != "cpu" or find_spec("openvino") is None:
        got = device.type if device.type != "cpu" else "no openvino"
        raise InvalidRequest(f"back end {backend}: expected a CPU and the extra kdmri[openvino], got {got}")
    from kdmri.runtime.backends.openvino import OpenVinoDenoiser, Precision

    precision: Precision = "f32" if backend == OPENVINO else "bf16"
    return OpenVinoDenoiser(file, threads=threads, precision=precision, inferences=inferences)


def cpu_supports(precision: str) -> bool:
    """Whether OpenVINO is there, and the processor computes in a precision ("bf16") rather than converting."""
    if find_spec("openvino") is None:
        return False
    from kdmri.runtime.backends.openvino import cpu_capabilities

    return precision.upper() in cpu_capabilities()


def available_backends(manifests: Sequence[Manifest], device: torch.device) -> list[str]:
    """The back ends that this machine has for all of these models, without losing what their cards say.

    TensorRT is named by any ONNX Runtime that knows it; see `why_unavailable`.
    """
    if device.type != "cpu":
        return [ONNXRUNTIME, *([TENSORRT] if onnx.TENSORRT in onnxruntime.get_available_providers() else [])]
    if find_spec("openvino") is None:
        return [ONNXRUNTIME]
    exact = all(m.precision_loss.get("bf16", float("inf")) <= TOLERATED_LOSS for m in manifests)
    return [ONNXRUNTIME, OPENVINO, *([OPENVINO_BF16] if exact and cpu_supports("bf16") else [])]


def why_unavailable(backend: str, device: torch.device, bundles: Sequence[Bundle]) -> str | None:
    """Why a back end can't run bundles on a device; None where their first cascades could be loaded.

    A GPU takes a driver, torch for CUDA and onnxruntime-gpu; TensorRT, its libraries too.
    """
    try:
        for bundle in bundles:
            denoiser(bundle.folder / cascade_file(1), backend, device=device, threads=1)
    except InvalidRequest as reason:
        return str(reason)
    return None


def choose_fastest(bundles: Sequence[Bundle], *, device: torch.device, threads: int) -> Choice:
    """The back end that runs the first cascade of the first bundle in the least time: one for all of the bundles, so
    that the times of teacher and student compare."""
    names = available_backends([bundle.manifest for bundle in bundles], device)
    missing = ""
    if TENSORRT in names and (reason := why_unavailable(TENSORRT, device, bundles)):
        names.remove(TENSORRT)
        missing = f"; without {TENSORRT}: {reason}"
    if len(names) == 1:
        return Choice(names[0], f"the only one offered here{missing}")
    first = bundles[0]
    planes = torch.zeros(1, SIDE, SIDE, 2 if first.manifest.task == "reconstruction" else 1, device=device)
    file = first.folder / cascade_file(1)
    times = {name: _milliseconds(denoiser(file, name, device=device, threads=threads), planes) for name in names}
    measured = ", ".join(f"{name} {value:.1f} ms" for name, value in times.items())
    return Choice(min(times, key=lambda name: times[name]), f"{first.manifest.reference}, one cascade: {measured}")


def _milliseconds(run: Denoiser, planes: torch.Tensor) -> float:
    run(planes)
    times = []
    for _ in range(RUNS):
        started = time.perf_counter()
        run(planes)
        if planes.is_cuda:
            torch.cuda.synchronize(planes.device)
        times.append(1000 * (time.perf_counter() - started))
    return min(times)
