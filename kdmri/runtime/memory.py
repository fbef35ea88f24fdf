"""Memory of a request: an estimate before work starts, and sizes of batches and bands that fit what is free."""

from pathlib import Path

import torch

from kdmri.errors import ExceedsMemory

PER_SAMPLE = 100
"""Bytes for a sample of one coil: coil images, sensitivities and everything between (measured: 96 for 16 coils)."""
PER_PIXEL = 1500
"""Bytes for a pixel in the networks: features before and after a convolution, and the back end's own buffers (measured:
830 for D5C5 in ONNX Runtime, 750 for D5C3 in OpenVINO; VDSR has twice the channels)."""
PER_RESULT = 8
"""Bytes for a pixel of the result: a magnitude in its batch, and once more in the whole stack."""
SHARE = 0.25
"""Share of the free memory that a batch may use: other requests, uploads and answers need some, too."""
AT_MOST = 2**30
"""Bytes for a batch on a processor. More slices are hardly faster there: ten of 256 x 256 fill its cores and caches."""
LEAST_ROWS = 64
"""Rows of a band at least: the overlap of smaller ones, up to 11 rows on either side, would cost more than they do."""
CGROUP = Path("/sys/fs/cgroup")


def slices_per_batch(device: torch.device, *, samples: int, pixels: int) -> int:
    """Compute how many slices to work on at a time, at least one.

    Args:
        device: device that the work runs on.
        samples: samples of a slice, in all coils.
        pixels: pixels of a slice.
    """
    return max(1, int(_room(device) // (PER_SAMPLE * samples + PER_PIXEL * pixels)))


def rows_per_band(device: torch.device, *, rows: int, columns: int) -> int:
    """Compute how many rows a network may see at a time: all of them if they fit, else at least LEAST_ROWS.

    Args:
        device: device that the work runs on.
        rows: rows of a slice.
        columns: columns of a slice, times the slices of the batch.
    """
    return min(rows, max(LEAST_ROWS, int(_room(device) // (PER_PIXEL * columns))))


def peak_memory(device: torch.device, *, slices: int, samples: int, pixels: int) -> int:
    """Estimate the bytes that a request needs beyond its input, worked on one slice at a time.

    Features of a network are counted up to the room of a batch only, because larger slices pass through it in bands.

    Args:
        device: device that the work runs on.
        slices: number of slices.
        samples: samples of a slice, in all coils; for images, the pixels of the result.
        pixels: pixels of a slice of the result, before the crop.
    """
    return int(_per_slice(device, samples=samples, pixels=pixels) + PER_RESULT * slices * pixels)


def check_fits(device: torch.device, *, slices: int, samples: int, pixels: int) -> None:
    """Refuse a request that needs more memory than a device has free, before any work starts.

    Args:
        device: device that the work runs on.
        slices: number of slices.
        samples: samples of a slice, in all coils; for images, the pixels of the result.
        pixels: pixels of a slice of the result, before the crop.

    Raises:
        ExceedsMemory: the estimate is larger than the free memory; the message has both and a request that would fit.
    """
    # Free memory is asked for once: other requests change it between two calls, and the message would contradict
    # itself.
    available = free(device)
    needed = peak_memory(device, slices=slices, samples=samples, pixels=pixels)
    if needed <= available:
        return
    # The largest smaller request: fewer slices of this size, or if not even one fits, slices of fewer pixels.
    fitting = int((available - _per_slice(device, samples=samples, pixels=pixels)) // (PER_RESULT * pixels))
    per_pixel = PER_SAMPLE * samples / pixels + PER_RESULT * slices
    smaller = (
        f"{fitting} slices of this size would fit"
        if fitting > 0
        else f"slices of about {int((1 - SHARE) * available / per_pixel)} pixels would fit"
    )
    raise ExceedsMemory(
        f"expected a request for at most {available // 10**6} MB of free memory, got one that needs about "
        f"{needed // 10**6} MB: {smaller}"
    )


def free(device: torch.device) -> int:
    """Return the bytes that a device has free; on a processor, those left to the container that this runs in."""
    if device.type == "cuda":
        # torch keeps memory that it has freed: it is free for this process, though the driver counts it as in use.
        reserved = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + reserved
    return min(_free_of_machine(), _free_of_container())


def _room(device: torch.device) -> float:
    """Return the bytes that a batch may use."""
    # A card is faster with more slices at a time, up to its memory: the bound holds for processors only.
    room = SHARE * free(device)
    return min(room, AT_MOST) if device.type == "cpu" else room


def _per_slice(device: torch.device, *, samples: int, pixels: int) -> float:
    """Estimate the bytes to work on one slice, whose features pass through the room of a batch in bands.

    Args:
        device: device that the work runs on.
        samples: samples of the slice, in all coils; for images, the pixels of the result.
        pixels: pixels of the slice.
    """
    return PER_SAMPLE * samples + min(PER_PIXEL * pixels, _room(device))


def _free_of_machine() -> int:
    """Return MemAvailable of proc(5); a system without it is assumed to have enough."""
    try:
        text = Path("/proc/meminfo").read_text()
    except OSError:
        return 2**62
    # proc(5) writes kB and means KiB.
    kilobytes = {line.split(":")[0]: line.split()[1] for line in text.splitlines()}
    return 1024 * int(kilobytes["MemAvailable"])


def _free_of_container() -> int:
    """Return what the limit of a version 2 control group leaves; cached files give way, and count as free."""
    try:
        limit, used = ((CGROUP / f"memory.{name}").read_text().strip() for name in ("max", "current"))
        statistics = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
    except OSError:
        return 2**62
    return 2**62 if limit == "max" else int(limit) - int(used) + int(statistics["inactive_file"])
