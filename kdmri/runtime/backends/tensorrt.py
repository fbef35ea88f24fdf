"""Denoisers on TensorRT, through ONNX Runtime: engines built for the card at hand, in single precision.

Imported only if this back end is requested. Building an engine takes a while, so they are kept in the user's cache
(`XDG_CACHE_HOME`, by default ~/.cache).
"""

import hashlib
import os
from contextlib import suppress
from pathlib import Path

import torch
from filelock import FileLock

from kdmri.runtime.backends.denoiser import Planes
from kdmri.runtime.backends.onnx import OnnxDenoiser

with suppress(ImportError):
    # The wheels' libraries lie where no loader looks; importing them loads them.
    import tensorrt_libs  # noqa: F401

Size = tuple[int, int, int]
SMALLEST: Size = (1, 32, 32)
USUAL: Size = (1, 256, 256)
LARGEST: Size = (4, 512, 512)
"""Slices, rows and columns that an engine is built for; more slices take turns. It sets memory aside for the largest,
in every cascade of every model: 32 channels of 4 x 512 x 512 in single precision are 134 MB."""


class TensorRtDenoiser:
    """A Denoiser on TensorRT; on CUDA's kernels for images of sizes that no engine was built for.

    An engine is built for a range of sizes; CUDA's kernels take every size.
    """

    def __init__(self, model: Path, *, device: torch.device, threads: int) -> None:
        """Open a session, and build its engine if the cache has none.

        Args:
            model: ONNX file of one cascade.
            device: card to run on.
            threads: threads of one inference, for what a card does not run.

        Raises:
            InvalidRequest: ONNX Runtime can't load TensorRT or build the engine.
        """
        forbid_tf32()
        self._kernels = OnnxDenoiser(model, device=device, threads=threads)
        folder = engines(model)
        folder.mkdir(parents=True, exist_ok=True)
        # Of several workers one builds, and the others find a whole file.
        with FileLock(folder / "lock"):
            self._engine = OnnxDenoiser(model, device=device, threads=threads, engine=options(folder, self.planes))

    @property
    def backend(self) -> str:
        """The execution provider that runs the graph."""
        return self._engine.backend

    @property
    def planes(self) -> int:
        """Planes of an image: the one size of the input that the graph fixes."""
        return self._kernels.planes

    def __call__(self, planes: Planes) -> Planes:
        """Return the denoised planes."""
        if not built_for(planes.shape[1], planes.shape[2]):
            return self._kernels(planes)
        parts = [self._engine(part) for part in planes.split(LARGEST[0])]
        return parts[0] if len(parts) == 1 else torch.cat(parts)


def forbid_tf32() -> None:
    """Make NVIDIA's libraries compute in single precision, unless NVIDIA_TF32_OVERRIDE is set.

    TF32 is TensorRT's default and has 10 bits of mantissa. No option of ONNX Runtime turns it off (its issue 26029), so
    the environment variable has to; the libraries read it when they are first used, after this.
    """
    os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")


def built_for(rows: int, columns: int) -> bool:
    """Check that an engine takes images of this size; any other would be an error."""
    least, most = SMALLEST[1:], LARGEST[1:]
    return least[0] <= rows <= most[0] and least[1] <= columns <= most[1]


def engines(model: Path) -> Path:
    """Return the folder of a graph's engine, named by the hash of the graph.

    ONNX Runtime names an engine by the graph's file and nodes, and would run one with the weights of another version.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "kdmri" / "tensorrt" / hashlib.sha256(model.read_bytes()).hexdigest()[:32]


def options(folder: Path, planes: int) -> dict[str, str]:
    """Return options of the provider; see onnxruntime.ai/docs/execution-providers/TensorRT-ExecutionProvider.html.

    Args:
        folder: folder of the engine; its parent holds the timings that all engines share.
        planes: planes of an image, the last axis of the graph's input.
    """

    def shape(size: Size) -> str:
        return f"image:{'x'.join(map(str, (*size, planes)))}"

    return {
        # The scores of a model's card are those of single precision.
        "trt_fp16_enable": "False",
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": str(folder),
        # What is fastest for a layer is the same in every cascade.
        "trt_timing_cache_enable": "True",
        "trt_timing_cache_path": str(folder.parent),
        "trt_profile_min_shapes": shape(SMALLEST),
        "trt_profile_opt_shapes": shape(USUAL),
        "trt_profile_max_shapes": shape(LARGEST),
    }
