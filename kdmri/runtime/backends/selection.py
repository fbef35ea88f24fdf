"""Selection of the back end that runs the denoisers: those that this machine offers, and the fastest by measurement."""

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
# The least of a few runs is taken: whatever else the machine does can only add to a time.
RUNS = 3


@dataclass(frozen=True)
class Choice:
    """A back end and why it was chosen."""

    backend: str
    reason: str


def denoiser(file: Path, backend: str, *, device: torch.device, threads: int, inferences: int = 1) -> Denoiser:
    """Open a cascade's network on a back end.

    Args:
        file: ONNX file of the cascade.
        backend: one of BACKENDS.
        device: processor or card to run on.
        threads: threads of one inference.
        inferences: inferences that may run at the same time.

    Raises:
        InvalidRequest: there is no such back end, or this machine does not offer it.
    """
    if backend == ONNXRUNTIME:
        return OnnxDenoiser(file, device=device, threads=threads)
    if backend not in BACKENDS:
        raise InvalidRequest(f"expected back end {', '.join(BACKENDS)} or auto, got {backend[:40]!r}")
    if backend == TENSORRT:
        if device.type == "cpu":
            raise InvalidRequest(f"back end {backend}: expected a CUDA device, got cpu")
        # Imported here: the module loads hundreds of megabytes of libraries, which few machines have.
        from kdmri.runtime.backends.tensorrt import TensorRtDenoiser

        return TensorRtDenoiser(file, device=device, threads=threads)
    if device.type != "cpu" or find_spec("openvino") is None:
        got = device.type if device.type != "cpu" else "no openvino"
        raise InvalidRequest(f"back end {backend}: expected a CPU and the extra kdmri[openvino], got {got}")
    from kdmri.runtime.backends.openvino import OpenVinoDenoiser, Precision

    precision: Precision = "f32" if backend == OPENVINO else "bf16"
    return OpenVinoDenoiser(file, threads=threads, precision=precision, inferences=inferences)


def cpu_supports(precision: str) -> bool:
    """Check that OpenVINO is installed and the processor computes in a precision ("bf16"), without conversions."""
    if find_spec("openvino") is None:
        return False
    from kdmri.runtime.backends.openvino import cpu_capabilities

    return precision.upper() in cpu_capabilities()


def available_backends(manifests: Sequence[Manifest], device: torch.device) -> list[str]:
    """Return the back ends of this machine that keep the scores of all these models' cards.

    Any ONNX Runtime that was built with TensorRT lists it, whether or not its libraries are there: `why_unavailable`
    tries it.
    """
    if device.type != "cpu":
        return [ONNXRUNTIME, *([TENSORRT] if onnx.TENSORRT in onnxruntime.get_available_providers() else [])]
    if find_spec("openvino") is None:
        return [ONNXRUNTIME]
    # A card without this figure counts as an unknown loss: reduced precision is used only if its cost was measured.
    exact = all(m.precision_loss.get("bf16", float("inf")) <= TOLERATED_LOSS for m in manifests)
    return [ONNXRUNTIME, OPENVINO, *([OPENVINO_BF16] if exact and cpu_supports("bf16") else [])]


def why_unavailable(backend: str, device: torch.device, bundles: Sequence[Bundle]) -> str | None:
    """Return the reason why a back end can't run bundles on a device, or None if it can.

    A GPU needs a driver, torch for CUDA and onnxruntime-gpu; TensorRT also needs its libraries.

    Args:
        backend: one of BACKENDS.
        device: processor or card to run on.
        bundles: models, of which the first cascades are loaded as a trial.
    """
    try:
        for bundle in bundles:
            denoiser(bundle.folder / cascade_file(1), backend, device=device, threads=1)
    except InvalidRequest as reason:
        return str(reason)
    return None


def choose_fastest(bundles: Sequence[Bundle], *, device: torch.device, threads: int) -> Choice:
    """Choose one back end for all bundles, so that the times of teacher and student can be compared.

    Args:
        bundles: models to run, of which the first cascade of the first is measured.
        device: processor or card to run on.
        threads: threads of one inference.
    """
    names = available_backends([bundle.manifest for bundle in bundles], device)
    missing = ""
    if TENSORRT in names and (reason := why_unavailable(TENSORRT, device, bundles)):
        names.remove(TENSORRT)
        missing = f"; without {TENSORRT}: {reason}"
    if len(names) == 1:
        return Choice(names[0], f"the only one offered here{missing}")
    first = bundles[0]
    file = first.folder / cascade_file(1)
    times = {name: _milliseconds(denoiser(file, name, device=device, threads=threads), device) for name in names}
    measured = ", ".join(f"{name} {value:.1f} ms" for name, value in times.items())
    return Choice(min(times, key=lambda name: times[name]), f"{first.manifest.reference}, one cascade: {measured}")


def _milliseconds(run: Denoiser, device: torch.device) -> float:
    """Measure the least time of one inference on an image of SIDE x SIDE, after a warm-up."""
    planes = torch.zeros(1, SIDE, SIDE, run.planes, device=device)
    run(planes)
    times = []
    for _ in range(RUNS):
        started = time.perf_counter()
        run(planes)
        # A card works on while the host goes on: without waiting, this would be the time to queue the work.
        if planes.is_cuda:
            torch.cuda.synchronize(planes.device)
        times.append(1000 * (time.perf_counter() - started))
    return min(times)
