"""K-space in, image out: sensitivities, cascades of denoiser and data consistency, a sparse fit for several coils."""

import math
from collections.abc import Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from jaxtyping import Bool, Complex, Float, Float32
from torch import Tensor

from kdmri.data.images import Images
from kdmri.data.kspace import KSpace, Scan, concatenate
from kdmri.errors import UnsupportedInput
from kdmri.physics.coils import calibrated, central, combine, compress, compression, expand, sensitivities
from kdmri.physics.consistency import fft_order
from kdmri.physics.fourier import centre_crop, fft2c, ifft2c
from kdmri.physics.readout import remove_oversampling
from kdmri.physics.sampling import calibration_region
from kdmri.physics.scaling import intensity_scale
from kdmri.physics.sparse_fit import sparse_fit
from kdmri.quality.no_reference import noise
from kdmri.runtime.memory import together
from kdmri.runtime.model import Model
from kdmri.runtime.stages import Stage, untimed

Batch = tuple[
    Complex[Tensor, "slice coil row column"],
    Float[Tensor, "slice_or_one 1 row column"],
    Complex[Tensor, "slice coil row column"],
]
"""Samples, mask (1 where measured, of all slices or of each) and sensitivities.

The mask stays on the host, where what it is like can be asked without waiting for a device."""


class Reconstructor:
    """A reconstruction model made runnable."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def reconstruct(self, kspace: Scan, *, coils: int | None = None, stage: Stage = untimed) -> Images:
        """Magnitude images in the units of the input, cropped to `kspace.image_shape`, and what they leave unexplained.

        `coils` is the number of virtual coils; by default as many as keep the calibration's energy.
        Raises UnsupportedInput where several coils come without a fully sampled centre.
        """
        pixels, powers = self._explained(kspace, coils, stage)
        return Images(pixels, kspace.geometry, _unexplained(powers))

    def reconstruct_each(self, scans: Sequence[Scan], *, stage: Stage = untimed) -> list[Images]:
        """What `reconstruct` answers to each of several scans that are `alike`, from one pass of them all."""
        with stage("parse"):
            slices = concatenate([scan.select(slice(0, 1)) for scan in scans])
        pixels, powers = self._explained(slices, None, stage)
        each = zip(scans, pixels[:, None], powers[:, None], strict=True)
        return [Images(own, scan.geometry, _unexplained(power)) for scan, own, power in each]

    def _explained(
        self, kspace: Scan, coils: int | None, stage: Stage
    ) -> tuple[Float32[np.ndarray, "slice row column"], Float[Tensor, "slice 2"]]:
        """Magnitude images, and for every slice |A x - y|^2 and |y|^2."""
        pixels, powers = [], []
        for image, batch in self._answers(kspace, coils, stage):
            with stage("data_consistency"), torch.inference_mode():
                # A device is waited for here: its time is part of the stage.
                pixels.append(centre_crop(image, kspace.image_shape).abs().cpu())
                powers.append(torch.stack([residual(image, *batch), _power(batch[0])], dim=1).cpu())
        return torch.cat(pixels).numpy(), torch.cat(powers)

    def complex_images(self, kspace: Scan, *, stage: Stage = untimed) -> Iterator[Complex[Tensor, "slice row column"]]:
        """Complex images on the sampled grid without readout oversampling, a batch of slices at a time."""
        return (image for image, _ in self._answers(kspace, None, stage))

    @torch.inference_mode()
    def _answers(
        self, kspace: Scan, coils: int | None, stage: Stage
    ) -> Iterator[tuple[Complex[Tensor, "slice row column"], Batch]]:
        for batch in measurements(kspace, self.model.device, stage, coils=coils):
            image = self.cascades(*batch, stage=stage)
            with stage("data_consistency"):
                image = finished(image, *batch)
            yield image, batch

    @torch.inference_mode()
    def cascades(
        self, samples: Tensor, mask: Tensor, maps: Tensor, *, stage: Stage = untimed
    ) -> Complex[Tensor, "slice row column"]:
        """The network's images: denoisers and data consistency by turns, before they are `finished`."""
        with stage("data_consistency"):
            start = backprojected(samples, maps)
            scale = intensity_scale(start)
            image = start = start / scale
            pattern = fft_order(mask).to(samples.device)
        for denoiser in self.model.denoisers:
            with stage("denoise"):
                image = torch.view_as_complex(denoiser(torch.view_as_real(image)))
            with stage("data_consistency"):
                image = self.model.consistency(image, start, pattern, maps, self.model.step)
        return image * scale


def alike(scan: Scan) -> Hashable | None:
    """What scans have in common that `reconstruct_each` takes together; None where one is better off by itself.

    One slice by one coil: several coils are compressed to as many as the neediest slice of a batch wants, and an answer
    would depend on its company. Whole lines or not, for readout oversampling is removed from all or from none.
    """
    slices, coils, *grid = scan.shape
    if slices > 1 or coils > 1:
        return None
    return (*grid, *scan.image_shape, bool((scan.mask == scan.mask[:, :1]).all()))


def finished(
    image: Complex[Tensor, "slice row column"], samples: Tensor, mask: Tensor, maps: Tensor
) -> Complex[Tensor, "slice row column"]:
    """The network's image as the guide of a sparse fit, where several coils leave something to be found.

    One coil's samples are met by data consistency; and where nothing is missing, the answer is the plain image.
    """
    if maps.shape[1] == 1 or bool((mask > 0).all()):
        return image
    return fitted(samples, mask, maps, guide=image)


def fitted(
    samples: Tensor, mask: Tensor, maps: Tensor, *, guide: Tensor | None = None
) -> Complex[Tensor, "slice row column"]:
    """`sparse_fit` in the units of the samples."""
    start = backprojected(samples, maps)
    scale = intensity_scale(start)
    deviation = torch.tensor([noise(coils) for coils in samples], device=samples.device) / scale.flatten()
    guide = None if guide is None else guide / scale
    return sparse_fit(start / scale, fft_order(mask), maps, noise=deviation, guide=guide) * scale


def backprojected(samples: Tensor, maps: Tensor) -> Complex[Tensor, "slice row column"]:
    """A^H y, coil after coil as in `consistency.normal`; one coil's sensitivities are ones."""
    if maps.shape[1] == 1:
        return ifft2c(samples[:, 0])
    image = torch.zeros_like(samples[:, 0])
    for coil in range(maps.shape[1]):
        image.addcmul_(maps[:, coil].conj(), ifft2c(samples[:, coil]))
    return image


def residual(
    image: Complex[Tensor, "slice row column"], samples: Tensor, mask: Tensor, maps: Tensor
) -> Float[Tensor, " slice"]:
    """|A x - y|^2 of every slice, on the sampled positions."""
    left, pattern = torch.zeros(len(image), device=image.device), mask[:, 0].to(image.device)
    for coil in range(maps.shape[1]):
        left += _power(pattern * fft2c(maps[:, coil] * image) - samples[:, coil])
    return left


def _power(samples: Complex[Tensor, "slice ..."]) -> Float[Tensor, " slice"]:
    """Sum of squares of the complex numbers of every slice."""
    return torch.view_as_real(samples).square().flatten(1).sum(dim=1)


def _unexplained(powers: Float[Tensor, "slice 2"]) -> float:
    """|A x - y| / |y| over slices, from both squared."""
    left, measured = powers.double().sum(dim=0).tolist()
    return float((left / (measured or 1)) ** 0.5)


@torch.inference_mode()
def zero_filled(kspace: Scan) -> Images:
    """The plain inverse Fourier transform with combined coils: what the networks start from, and the baseline."""
    parts = [
        centre_crop(combine(ifft2c(samples), maps), kspace.image_shape).abs()
        for samples, _, maps in measurements(kspace, torch.device("cpu"))
    ]
    return Images(torch.cat(parts).numpy(), kspace.geometry)


def measurements(
    kspace: Scan, device: torch.device, stage: Stage = untimed, *, coils: int | None = None
) -> Iterator[Batch]:
    """Slices with compressed coils, mask and sensitivities, as many at a time as free memory allows."""
    _, coil_count, rows, columns = kspace.shape
    size = together(device, samples=coil_count * rows * columns, pixels=rows * columns)
    for whole in _read_ahead(kspace, size, stage):
        with stage("sensitivities"):
            part = remove_oversampling(whole)
            samples = torch.from_numpy(part.samples).to(device)
            mask = torch.from_numpy(part.mask.astype(np.float32)).unsqueeze(1)
            maps = torch.ones_like(samples)
            if samples.shape[1] > 1:
                samples, maps = _virtual_coils(part, samples, coils)
        yield samples, mask, maps


def _read_ahead(kspace: Scan, size: int, stage: Stage) -> Iterator[KSpace]:
    """Parts of `size` slices to be worked on together; while one is, the next is read."""
    parts = [slice(start, start + size) for start in range(0, kspace.shape[0], size)]
    with ThreadPoolExecutor(1, thread_name_prefix="reader") as reader:
        following = reader.submit(kspace.select, parts[0])
        for after in (*parts[1:], None):
            with stage("parse"):
                part = following.result()
            if after:
                following = reader.submit(kspace.select, after)
            yield part


def _virtual_coils(
    part: KSpace, samples: Complex[Tensor, "slice coil row column"], coils: int | None
) -> tuple[Complex[Tensor, "slice virtual row column"], Complex[Tensor, "slice virtual row column"]]:
    """Samples of virtual coils, chosen for every slice, and their sensitivities."""
    source = part.calibration or part
    calibration = torch.from_numpy(source.samples).to(samples.device) if part.calibration else samples
    patterns = [source.mask[min(index, len(source.mask) - 1)] for index in range(len(samples))]
    regions = [_region(pattern) for pattern in patterns]
    shape = (calibration.shape[-2], calibration.shape[-1])
    blocks = [scan[None, :, *central(region, shape)] for scan, region in zip(calibration, regions, strict=True)]
    # Slices of a batch have equally many; those that need fewer get some to spare.
    count = coils or max(len(compression(block)) for block in blocks)
    if part.calibration and not coils:
        count = max(count, math.ceil(COILS_PER_FOLD * part.acceleration))
    compressed, maps = [], []
    for index, (block, region, pattern) in enumerate(zip(blocks, regions, patterns, strict=True)):
        virtual = compression(block, coils=count)
        found = sensitivities(compress(calibration[index : index + 1], virtual), region)
        # A calibration scan may keep readout oversampling that the image has lost.
        found = centre_crop(found, (samples.shape[-2], samples.shape[-1]))
        compressed.append(compress(samples[index : index + 1], virtual))
        if part.calibration is None and min(extent.stop - extent.start for extent in region) < FEW_LINES:
            found = _recalibrated(compressed[-1], torch.tensor(pattern), found)
        maps.append(found)
    return torch.cat(compressed), torch.cat(maps)


COILS_PER_FOLD = 2
"""Virtual coils at least for each of the pixels that lie on another, where calibration is a scan of its own and so the
lowest frequencies are folded too: then nothing else tells them apart. The tool's phantom at every 4th line is 0.9% off
with 8 and 1.5% with the 5 that keep its energy (docs/formats.md)."""

FEW_LINES = 10
"""Fewer central lines than these leave sensitivities wrong that an exact fit would turn into noise: then the centre is
completed first (docs/decisions/0007)."""


def _recalibrated(samples: Tensor, mask: Tensor, maps: Tensor) -> Complex[Tensor, "1 virtual row column"]:
    """Sensitivities from the whole centre of k-space, what was not measured filled in by a fit with first ones."""
    filled = fft2c(expand(fitted(samples, mask.float()[None, None], maps), maps))
    rows, columns = samples.shape[-2:]
    return sensitivities(torch.where(mask.to(samples.device), samples, filled), (slice(0, rows), slice(0, columns)))


def _region(pattern: Bool[np.ndarray, "row column"]) -> tuple[slice, slice]:
    """Where a slice can be calibrated; raises UnsupportedInput where nowhere."""
    region = calibration_region(pattern)
    if not calibrated(pattern, region):
        found = " x ".join(str(extent.stop - extent.start) for extent in region)
        raise UnsupportedInput(
            f"several coils: expected a fully sampled centre of at least 4 x 4 samples to calibrate them, got {found}"
        )
    return region
