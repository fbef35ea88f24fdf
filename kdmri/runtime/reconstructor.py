"""K-space in, image out: sensitivities, then cascades of denoiser and data consistency."""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Complex
from torch import Tensor

from kdmri.coils import calibrated, combine, compress, compression, sensitivities
from kdmri.consistency import prepared
from kdmri.errors import UnsupportedInput
from kdmri.fourier import centre_crop, ifft2c
from kdmri.records import Images, KSpace
from kdmri.runtime.model import Model
from kdmri.runtime.stages import Stage, untimed
from kdmri.sampling import calibration_region
from kdmri.scaling import intensity_scale

BATCH_SAMPLES = 2**22
"""Samples (slice x coil x row x column) worked on at a time: 4 slices of 16 coils at 256 x 256, 32 MB as complex64."""

Batch = tuple[Complex[Tensor, "slice coil row column"], Tensor, Complex[Tensor, "slice coil row column"]]


class Reconstructor:
    """A reconstruction model made runnable."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def reconstruct(self, kspace: KSpace, *, stage: Stage = untimed) -> Images:
        """Magnitude images in the units of the input, cropped to `kspace.image_shape`.

        Raises UnsupportedInput where several coils come without a fully sampled centre.
        """
        parts = [
            centre_crop(image, kspace.image_shape).abs().cpu() for image in self.complex_images(kspace, stage=stage)
        ]
        return Images(torch.cat(parts).numpy(), kspace.geometry)

    @torch.inference_mode()
    def complex_images(
        self, kspace: KSpace, *, stage: Stage = untimed
    ) -> Iterator[Complex[Tensor, "slice row column"]]:
        """Complex images on the whole sampled grid, a batch of slices at a time."""
        for samples, mask, maps in measurements(kspace, self.model.device, stage):
            with stage("data_consistency"):
                coil_images = ifft2c(samples)
                image = combine(coil_images, maps)
                scale = intensity_scale(image)
                image = image / scale
                measured, pattern = prepared(coil_images / scale[:, None], mask)
            for denoiser in self.model.denoisers:
                with stage("denoise"):
                    image = torch.view_as_complex(denoiser(torch.view_as_real(image)))
                with stage("data_consistency"):
                    image = self.model.consistency(image, measured, pattern, maps, self.model.step)
            yield image * scale


@torch.inference_mode()
def zero_filled(kspace: KSpace) -> Images:
    """The plain inverse Fourier transform with combined coils: what the networks start from, and the baseline."""
    parts = [
        centre_crop(combine(ifft2c(samples), maps), kspace.image_shape).abs()
        for samples, _, maps in measurements(kspace, torch.device("cpu"))
    ]
    return Images(torch.cat(parts).numpy(), kspace.geometry)


def measurements(kspace: KSpace, device: torch.device, stage: Stage = untimed) -> Iterator[Batch]:
    """Slices with compressed coils, mask and sensitivities, as many at a time as BATCH_SAMPLES allows."""
    with stage("sensitivities"):
        virtual = _virtual_coils(kspace, device)
    size = max(1, BATCH_SAMPLES // kspace.samples[0].size)
    for start in range(0, len(kspace.samples), size):
        with stage("sensitivities"):
            samples = torch.from_numpy(kspace.samples[start : start + size]).to(device)
            patterns = kspace.mask if len(kspace.mask) == 1 else kspace.mask[start : start + size]
            if virtual is not None:
                samples = compress(samples, virtual)
            maps = torch.cat([_maps(samples, patterns, index) for index in range(len(samples))])
            mask = torch.from_numpy(patterns.astype(np.float32)).to(device).unsqueeze(1)
        yield samples, mask, maps


def _virtual_coils(kspace: KSpace, device: torch.device) -> Complex[Tensor, "virtual coil"] | None:
    """The compression for all slices, from the middle one: neighbours see the same coils."""
    if kspace.samples.shape[1] == 1:
        return None
    return compression(torch.from_numpy(kspace.samples[len(kspace.samples) // 2][None]).to(device))


def _maps(samples: Complex[Tensor, "slice coil row column"], patterns: np.ndarray, index: int) -> Tensor:
    """Sensitivities of one slice of a batch."""
    if samples.shape[1] == 1:
        return torch.ones_like(samples[index : index + 1])
    pattern = patterns[min(index, len(patterns) - 1)]
    region = calibration_region(pattern)
    if not calibrated(pattern, region):
        found = " x ".join(str(extent.stop - extent.start) for extent in region)
        raise UnsupportedInput(
            f"several coils: expected a fully sampled centre of at least 4 x 4 samples to calibrate them, got {found}"
        )
    return sensitivities(samples[index : index + 1], region)
