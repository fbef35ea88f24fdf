"""How many slices are worked on together: what a part of the free memory holds."""

from pathlib import Path

import torch

PER_SAMPLE = 100
"""Bytes for a sample of one coil: coil images, sensitivities and what is between them (measured: 96 for 16 coils)."""
PER_PIXEL = 1500
"""Bytes for a pixel in the networks: features before and after a convolution, and what a back end sets aside for it
(measured: 830 for D5C5 in ONNX Runtime, 750 for D5C3 in OpenVINO; VDSR has twice the channels)."""
SHARE = 0.25
"""Of the free memory: other requests, uploads and answers need some, too."""
AT_MOST = 2**30
"""Bytes for a batch on a processor. More slices are hardly faster there: ten of 256 x 256 fill its cores and caches."""
CGROUP = Path("/sys/fs/cgroup")


def slices_per_batch(device: torch.device, *, samples: int, pixels: int) -> int:
    """How many slices of so many samples (in all coils) and pixels to take at a time, at least one."""
    room = SHARE * free(device)
    if device.type == "cpu":
        room = min(room, AT_MOST)
    return max(1, int(room // (PER_SAMPLE * samples + PER_PIXEL * pixels)))


def free(device: torch.device) -> int:
    """Bytes that a device has to give; on a processor, those of the container that this runs in."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + kept
    return min(_of_machine(), _of_container())


def _of_machine() -> int:
    """MemAvailable of proc(5); a system without it is taken to have enough."""
    try:
        text = Path("/proc/meminfo").read_text()
    except OSError:
        return 2**62
    found = {line.split(":")[0]: line.split()[1] for line in text.splitlines()}
    return 1024 * int(found["MemAvailable"])


def _of_container() -> int:
    """What the limit of a version 2 control group leaves; files in the cache give way, and count as free."""
    try:
        limit, used = ((CGROUP / f"memory.{name}").read_text().strip() for name in ("max", "current"))
        kept = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
    except OSError:
        return 2**62
    return 2**62 if limit == "max" else int(limit) - int(used) + int(kept["inactive_file"])
