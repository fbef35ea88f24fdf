"""A denoiser as an ONNX Runtime session that reads and writes torch tensors where they lie."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from threading import Lock

import numpy as np
import onnxruntime
import torch

from kdmri.errors import InvalidRequest
from kdmri.runtime.backends.denoiser import Planes

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"


class OnnxDenoiser:
    """A Denoiser on the CPU or, with onnxruntime-gpu, on CUDA or TensorRT."""

    def __init__(
        self, model: Path, *, device: torch.device, threads: int, engine: Mapping[str, str] | None = None
    ) -> None:
        """Open a session.

        Args:
            model: ONNX file of one cascade.
            device: processor or card to run on.
            threads: threads of one inference on a processor.
            engine: options of TensorRT's execution provider; without them a card runs CUDA's kernels.

        Raises:
            InvalidRequest: the execution provider can't be loaded. ONNX Runtime would take another without a word.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # The graph is a chain of convolutions: no two of its nodes can run at the same time.
        options.inter_op_num_threads = 1
        # A spinning pool would fight torch's threads, which run data consistency in between.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        _share_memory()
        options.add_session_config_entry("session.use_env_allocators", "1")
        self.device = device
        if device.type == "cpu":
            self.session = onnxruntime.InferenceSession(str(model), options, providers=[CPU])
        else:
            self.session = _on_card(model, options, device, engine)
        self._turn = Lock()

    @property
    def backend(self) -> str:
        """The execution provider that runs the graph."""
        return str(self.session.get_providers()[0])

    @property
    def planes(self) -> int:
        """Planes of an image: the one size of the input that the graph fixes, 1 where it takes any number."""
        # A size that a graph leaves open is a name, not a number.
        planes = self.session.get_inputs()[0].shape[-1]
        return planes if isinstance(planes, int) else 1

    def __call__(self, planes: Planes) -> Planes:
        """Return the denoised planes, without a copy on the way in or out."""
        # Binding passes addresses, so that the memory behind them must be in the order that the graph expects.
        planes = planes.contiguous()
        answer = torch.empty_like(planes)
        binding = self.session.io_binding()
        place = (self.device.type, self.device.index or 0, np.float32)
        binding.bind_input("image", *place, tuple(planes.shape), planes.data_ptr())
        binding.bind_output("denoised", *place, tuple(answer.shape), answer.data_ptr())
        if self.device.type == "cpu":
            self.session.run_with_iobinding(binding)
        else:
            self._queue(binding)
        return answer

    def _queue(self, binding: onnxruntime.IOBinding) -> None:
        """Run after what torch has queued on the card and before what it queues next, while the host goes on.

        One run at a time: those of a session share their stream's cuDNN handle, which is not for several threads.
        """
        torchs, ours = torch.cuda.current_stream(self.device), _stream(self.device)
        unawaited = onnxruntime.RunOptions()
        unawaited.add_run_config_entry("disable_synchronize_execution_providers", "1")
        with self._turn:
            ours.wait_stream(torchs)
            self.session.run_with_iobinding(binding, unawaited)
            torchs.wait_stream(ours)


@cache
def _share_memory() -> None:
    """Register one arena for all sessions of the process.

    Without it each session keeps its largest features for itself, cascade by cascade (64 slices of 256 x 256 by D5C5:
    2.3 GB against 0.9).
    """
    memory = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    onnxruntime.create_and_register_allocator(memory, None)


@cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    """Return the stream that all sessions on a card share.

    It is not torch's own, whose address is 0: ONNX Runtime takes that for no stream at all.
    """
    return torch.cuda.Stream(device)


def _on_card(
    model: Path, options: onnxruntime.SessionOptions, device: torch.device, engine: Mapping[str, str] | None
) -> onnxruntime.InferenceSession:
    """Open a session on a card, with the provider that was asked for and no other.

    Args:
        model: ONNX file of one cascade.
        options: options of the session.
        device: the card.
        engine: options of TensorRT's execution provider, or None for CUDA's.

    Raises:
        InvalidRequest: torch finds no card, or the provider can't be loaded.
    """
    wanted = CUDA if engine is None else TENSORRT
    if not torch.cuda.is_available():
        raise InvalidRequest("torch finds no CUDA device")
    if wanted not in onnxruntime.get_available_providers():
        raise InvalidRequest(f"this ONNX Runtime has no {wanted}: expected onnxruntime-gpu in its place")
    chosen = providers(device, _stream(device).cuda_stream, engine)
    try:
        # Its own way to fall back drops all options, the stream among them.
        session = onnxruntime.InferenceSession(str(model), options, providers=chosen, enable_fallback=0)
    except Exception as error:
        raise InvalidRequest(f"ONNX Runtime could not load its {wanted}: {str(error).strip()}") from error
    # The session of a provider whose libraries are missing opens all the same, with the next one of the list.
    if (got := session.get_providers()[0]) != wanted:
        raise InvalidRequest(f"ONNX Runtime could not load its {wanted} and took {got}")
    return session


def providers(
    device: torch.device, stream: int, engine: Mapping[str, str] | None = None
) -> list[tuple[str, dict[str, str]]]:
    """Return the execution providers of a graph on a card, first choice first, with their options.

    Args:
        device: the card.
        stream: address of the CUDA stream to run on.
        engine: options of TensorRT's provider; without them CUDA's is the first choice.
    """
    place = {"user_compute_stream": str(stream)}
    if device.index:
        place["device_id"] = str(device.index)
    # TF32, on by default, has 10 bits of mantissa: models' scores and their parity are of single precision.
    cuda = (CUDA, {**place, "use_tf32": "0"})
    return [cuda, (CPU, {})] if engine is None else [(TENSORRT, {**place, **engine}), cuda, (CPU, {})]
