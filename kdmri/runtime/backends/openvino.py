"""Denoisers on OpenVINO: Intel's and AMD's processors in bfloat16, at half the time of ONNX Runtime's single precision.

Needs the extra `openvino`; imported only if this back end is requested.
"""

from pathlib import Path
from typing import Literal

import torch

from kdmri.runtime.backends.denoiser import Planes
from kdmri.runtime.backends.openvino_import import openvino

Precision = Literal["f32", "bf16"]


class OpenVinoDenoiser:
    """A Denoiser on the CPU. Sizes are dynamic: a new one costs some milliseconds once."""

    def __init__(self, model: Path, *, threads: int, precision: Precision, inferences: int = 1) -> None:
        self.precision = precision
        settings = {
            "INFERENCE_PRECISION_HINT": precision,
            # The number for all streams together, which share them equally.
            "INFERENCE_NUM_THREADS": threads * inferences,
            "PERFORMANCE_HINT": "LATENCY",
            # One stream takes requests in turn, however many threads ask.
            "NUM_STREAMS": inferences,
            # Each cascade is a model of its own: their first streams would all be pinned to the first core.
            "ENABLE_CPU_PINNING": False,
        }
        self.compiled = openvino.Core().compile_model(model, "CPU", settings)

    @property
    def backend(self) -> str:
        """Name of the library, with its precision if that is not single."""
        return "OpenVINO" if self.precision == "f32" else f"OpenVINO {self.precision}"

    @property
    def planes(self) -> int:
        """Planes of an image: the one size of the input that the graph fixes, 1 where it takes any number."""
        planes = self.compiled.input(0).partial_shape[-1]
        return int(planes.get_length()) if planes.is_static else 1

    def __call__(self, planes: Planes) -> Planes:
        """Return the denoised planes, without a copy on the way in or out."""
        planes = planes.contiguous()
        answer = torch.empty_like(planes)
        # A request of its own: several threads may run one model.
        request = self.compiled.create_infer_request()
        request.set_input_tensor(openvino.Tensor(planes.numpy(), shared_memory=True))
        request.set_output_tensor(openvino.Tensor(answer.numpy(), shared_memory=True))
        request.infer()
        return answer


def cpu_capabilities() -> list[str]:
    """Return the precisions in which OpenVINO can compute on this processor, for example FP32 and BF16."""
    capabilities: list[str] = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return capabilities
