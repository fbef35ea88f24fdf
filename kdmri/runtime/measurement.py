"""Preparation of a measurement: k-space as the reconstructor needs it, a batch of slices at a time.

Readout oversampling is removed, units are removed, coils are compressed and their sensitivities estimated.
"""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Complex, Float, Float32
from torch import Tensor

from kdmri.data.kspace import KSpace, Scan
from kdmri.errors import UnsupportedInput
from kdmri.physics.acquisition import Acquisition
from kdmri.physics.coils import compress, compression_matrix, expand
from kdmri.physics.espirit import calibration_block, can_calibrate, estimate_sensitivities
from kdmri.physics.fourier import centre_crop, fft2c
from kdmri.physics.readout import crop_readout
from kdmri.physics.sampling import calibration_region
from kdmri.physics.scaling import divide, power_of_two
from kdmri.physics.sparse_fit import sparse_fit
from kdmri.runtime.memory import check_fits, slices_per_batch
from kdmri.runtime.stages import Stage, measure_nothing

COILS_PER_FOLD = 2
"""Least number of virtual coils for each pixel that aliasing folds onto another, if calibration is a separate scan.

The lowest frequencies are then aliased too, and nothing but the coils tells the pixels apart. ISMRMRD's phantom sampled
at every 4th line is 0.9% off with 8 virtual coils and 1.5% with the 5 that keep its energy (docs/formats.md).
"""
FEW_LINES = 10
"""Number of central lines below which the centre is completed first: sensitivities from fewer lines have errors that an
exact fit would turn into noise (docs/decisions/0007)."""


@dataclass(frozen=True)
class Measurement:
    """A batch of slices, ready for reconstruction."""

    acquisition: Acquisition
    """Samples of virtual coils, divided by `unit`."""
    unit: Float[Tensor, "slice 1 1"]
    """Factor from the units of the acquisition to those of the input; 0 for a slice without any signal."""
    withheld: Acquisition | None = None
    """Samples that the reconstruction must not see, of the same virtual coils in the same units."""


def measurements(
    kspace: Scan, device: torch.device, stage: Stage = measure_nothing, *, coils: int | None = None
) -> Iterator[Measurement]:
    """Prepare a scan batch by batch, with as many slices at a time as free memory allows.

    Args:
        kspace: the scan; slices are read from it as they are needed.
        device: device that the batches are placed on.
        stage: announces "parse" and "sensitivities".
        coils: number of virtual coils; by default as many as keep the energy of the calibration region.

    Raises:
        UnsupportedInput: a sample is NaN or infinite, or several coils have no fully sampled centre.
        ExceedsMemory: the scan needs more memory than the device has.
    """
    slices, coil_count, rows, columns = kspace.shape
    samples, pixels = coil_count * rows * columns, rows * columns
    check_fits(device, slices=slices, samples=samples, pixels=pixels)
    # Counted in the coils of the file, of which virtual coils are at most as many: the estimate is on the safe side.
    size = slices_per_batch(device, samples=samples, pixels=pixels)
    for batch in _read_ahead(kspace, size, stage):
        with stage("sensitivities"):
            measurement = _prepare(remove_oversampling(batch), device, coils)
        # Outside of the stage: what the caller does with a batch is not part of its preparation.
        yield measurement


def _prepare(part: KSpace, device: torch.device, coils: int | None) -> Measurement:
    """Remove units, compress the coils and estimate their sensitivities.

    Args:
        part: slices without readout oversampling.
        device: device of the result.
        coils: number of virtual coils, or None to keep the energy of the calibration region.

    Raises:
        UnsupportedInput: a sample is NaN or infinite, or several coils have no fully sampled centre.
    """
    # On the host, where NaN and infinity are noticed without waiting for a device.
    samples, unit = _without_units(part.samples)
    samples = samples.to(device)
    apart = divide(torch.from_numpy(part.withheld.samples), unit).to(device) if part.withheld else None
    maps = torch.ones_like(samples)
    if samples.shape[1] > 1:
        matrices, samples, maps = _virtual_coils(part, samples, coils)
        apart = None if apart is None else _compress_each(apart, matrices)
    withheld = None
    if part.withheld and apart is not None:
        withheld = Acquisition(apart, _float_mask(part.withheld), maps)
    return Measurement(Acquisition(samples, _float_mask(part), maps), unit[:, None, None].to(device), withheld)


def _float_mask(part: KSpace) -> Float[Tensor, "slice 1 row column"]:
    return torch.from_numpy(part.mask.astype(np.float32)).unsqueeze(1)


def _compress_each(
    samples: Complex[Tensor, "slice coil row column"], matrices: Sequence[Complex[Tensor, "virtual coil"]]
) -> Complex[Tensor, "slice virtual row column"]:
    """Compress the coils of every slice by a matrix of its own."""
    return torch.cat([compress(scan[None], matrix) for scan, matrix in zip(samples, matrices, strict=True)])


def _without_units(
    samples: Complex[np.ndarray, "slice coil row column"],
) -> tuple[Complex[Tensor, "slice coil row column"], Float[Tensor, " slice"]]:
    """Divide every slice by a power of two, and return that, too. Raises UnsupportedInput for NaN and infinity."""
    array = torch.from_numpy(samples)
    unit = power_of_two(array)
    if not unit.isfinite().all():
        raise UnsupportedInput("expected finite k-space samples, got NaN or infinity")
    return divide(array, unit), unit


def require_finite(pixels: Float32[Tensor, "slice row column"]) -> Float32[Tensor, "slice row column"]:
    """Return the pixels unchanged. Raises UnsupportedInput if one is NaN or infinite."""
    if not pixels.isfinite().all():
        largest = torch.finfo(pixels.dtype).max
        raise UnsupportedInput(f"expected an image within float32's range of {largest:.2g}, got NaN or infinity")
    return pixels


def _read_ahead(kspace: Scan, size: int, stage: Stage) -> Iterator[KSpace]:
    """Read batches of slices; while one batch is worked on, a thread reads the next.

    Args:
        kspace: the scan to read from.
        size: slices of a batch; the last one may have fewer.
        stage: announces "parse" while a batch is waited for, so that reading that costs no time is not counted.
    """
    parts = [slice(start, start + size) for start in range(0, kspace.shape[0], size)]
    # One thread: h5py lets one call through at a time, and the work can use one batch ahead, no more.
    with ThreadPoolExecutor(1, thread_name_prefix="reader") as reader:
        following = reader.submit(kspace.select, parts[0])
        for after in (*parts[1:], None):
            with stage("parse"):
                part = following.result()
            if after:
                following = reader.submit(kspace.select, after)
            yield part


def remove_oversampling(kspace: KSpace) -> KSpace:
    """Remove readout oversampling, so that everything that follows works on fewer rows.

    The image is the same after the crop to `image_shape`. The scan returns unchanged if there is nothing to remove, or
    if sampling varies along the readout, because then there is no whole readout to transform.
    """
    rows, wanted = kspace.samples.shape[-2], kspace.image_shape[0]
    if wanted >= rows or (kspace.mask != kspace.mask[:, :1]).any():
        return kspace
    # Slice by slice: transforms of all at once would need the memory of the batch several times more.
    samples = np.stack([crop_readout(torch.from_numpy(coils), wanted).numpy() for coils in kspace.samples])
    calibration = kspace.calibration and remove_oversampling(kspace.calibration)
    withheld = kspace.withheld and remove_oversampling(kspace.withheld)
    return replace(kspace, samples=samples, mask=kspace.mask[:, :wanted], calibration=calibration, withheld=withheld)


def _virtual_coils(
    part: KSpace, samples: Complex[Tensor, "slice coil row column"], coils: int | None
) -> tuple[
    list[Complex[Tensor, "virtual coil"]],
    Complex[Tensor, "slice virtual row column"],
    Complex[Tensor, "slice virtual row column"],
]:
    """Compress the coils of every slice, and estimate the sensitivities of the virtual ones.

    Args:
        part: the slices, with their masks and, if there is one, their calibration scan.
        samples: their samples without units, on the device to work on.
        coils: number of virtual coils, or None to keep the calibration's energy.

    Returns:
        The matrix that compressed each slice, samples of virtual coils and their sensitivities.
    """
    source = part.calibration or part
    calibration = samples if source is part else _without_units(source.samples)[0].to(samples.device)
    patterns = [source.mask[min(index, len(source.mask) - 1)] for index in range(len(samples))]
    # A region for each slice, because a scan may sample every slice with a pattern of its own.
    regions = [_region(pattern) for pattern in patterns]
    shape = (calibration.shape[-2], calibration.shape[-1])
    blocks = [
        scan[None, :, *calibration_block(region, shape)] for scan, region in zip(calibration, regions, strict=True)
    ]
    # All slices of a batch have as many virtual coils as the slice that needs most: they share one array.
    count = coils or max(len(compression_matrix(block)) for block in blocks)
    if part.calibration and not coils:
        count = max(count, math.ceil(COILS_PER_FOLD * part.acceleration))
    matrices, compressed, maps = [], [], []
    for index, (block, region, pattern) in enumerate(zip(blocks, regions, patterns, strict=True)):
        matrix = compression_matrix(block, coils=count)
        estimate = estimate_sensitivities(compress(calibration[index : index + 1], matrix), region)
        # A calibration scan may keep readout oversampling that has been removed from the image's samples.
        estimate = centre_crop(estimate, (samples.shape[-2], samples.shape[-1]))
        matrices.append(matrix)
        compressed.append(compress(samples[index : index + 1], matrix))
        if part.calibration is None and min(extent.stop - extent.start for extent in region) < FEW_LINES:
            estimate = _recalibrate(compressed[-1], torch.tensor(pattern), estimate)
        maps.append(estimate)
    return matrices, torch.cat(compressed), torch.cat(maps)


def _recalibrate(
    samples: Complex[Tensor, "1 virtual row column"], mask: Bool[Tensor, "row column"], maps: Tensor
) -> Complex[Tensor, "1 virtual row column"]:
    """Estimate sensitivities from the whole of k-space, missing samples filled in by a fit with first estimates.

    Args:
        samples: samples of the virtual coils of one slice.
        mask: True where a sample was measured.
        maps: first estimates of the sensitivities.
    """
    image = sparse_fit(Acquisition(samples, mask.float()[None, None], maps))
    # Measured samples stay as they are; only the missing ones come from the fit.
    completed = torch.where(mask.to(samples.device), samples, fft2c(expand(image, maps)))
    rows, columns = samples.shape[-2:]
    return estimate_sensitivities(completed, (slice(0, rows), slice(0, columns)))


def _region(pattern: Bool[np.ndarray, "row column"]) -> tuple[slice, slice]:
    """Return the region that calibrates a slice. Raises UnsupportedInput if none is large enough."""
    region = calibration_region(pattern)
    if not can_calibrate(pattern, region):
        size = " x ".join(str(extent.stop - extent.start) for extent in region)
        raise UnsupportedInput(
            f"several coils: expected a fully sampled centre of at least 4 x 4 samples to calibrate them, got {size}"
        )
    return region
