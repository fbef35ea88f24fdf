"""Description of the machine, and its peak speed of matrix products: the limit for the denoisers."""

import os
import platform
from collections.abc import Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from kdmri.benchmark import in_turns

SIZES = (1024, 2048, 4096)
"""Rows and columns of the matrices; the fastest counts."""
PACKAGES = ("torch", "onnxruntime", "openvino")


def description(threads: int) -> dict[str, str]:
    """Describe the machine: processor, threads, load before the run, and versions of the libraries."""
    return {
        "processor": _processor(),
        "threads": f"{threads} of {os.cpu_count()} cores",
        "load average before": f"{os.getloadavg()[0]:.1f}",
        **{name: _version(name) for name in PACKAGES},
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    (name, *_) = [line.partition(": ")[2] for line in lines if line.startswith("model name")] or [platform.machine()]
    flags = next((line for line in lines if line.startswith("flags")), "").split()
    # The instructions that decide in which precisions the denoisers can compute, and how fast.
    known = [flag for flag in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16") if flag in flags]
    return f"{name} ({', '.join(known)})" if known else name


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def peaks(*, repeats: int, sizes: Sequence[int] = SIZES) -> dict[str, float]:
    """Measure torch's (oneDNN's) best rate of matrix products, in floating-point operations a second by precision."""
    found = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        runs = {}
        for size in sizes:
            left, right = torch.ones(2, size, size, dtype=dtype)
            runs[size] = partial(torch.mm, left, right)
        times = in_turns(runs, repeats)
        # A product of n x n matrices takes n^3 multiplications and as many additions.
        found[name] = max(2 * size**3 / (min(milliseconds) / 1000) for size, milliseconds in times.items())
    return found
