"""Choice of the number format that training computes in."""

from pathlib import Path
from typing import Literal

import torch

CPUINFO = Path("/proc/cpuinfo")
FLAGS = {"avx512_bf16", "amx_bf16"}
"""Flags of processors that multiply in bfloat16. Others convert every number: a teacher step takes 13.1 s instead of
1.1 s in float32."""


def choose_precision(cpuinfo: Path = CPUINFO) -> Literal["bf16-mixed", "32-true"]:
    """Return Fabric's name of bfloat16 if the device multiplies in it, else that of float32."""
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    # Linux lists a processor's flags here; elsewhere the file is absent, and float32 is right on every processor.
    flags = set(cpuinfo.read_text().split()) if cpuinfo.exists() else set()
    return "bf16-mixed" if flags & FLAGS else "32-true"
