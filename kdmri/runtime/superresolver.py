"""Coarse image in, finer image out: sinc interpolation, detail by the network, projection on what was measured."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from kdmri.data.images import Images
from kdmri.errors import InvalidRequest, UnsupportedInput
from kdmri.physics.consistency import fft_order
from kdmri.physics.resampling import as_complex, measured_band, upsample
from kdmri.physics.scaling import divide, intensity_scale, power_of_two
from kdmri.runtime.bands import denoise_in_bands
from kdmri.runtime.measurement import require_finite
from kdmri.runtime.memory import check_fits, rows_per_band, slices_per_batch
from kdmri.runtime.model import Model
from kdmri.runtime.stages import Stage, measure_nothing, report_slices


class SuperResolver:
    """A super-resolution model made runnable."""

    def __init__(self, model: Model) -> None:
        self.model = model

    @torch.inference_mode()
    def super_resolve(self, images: Images, scale: int, *, stage: Stage = measure_nothing) -> Images:
        """Compute images on a grid `scale` times finer over the same field of view, in the units of the input.

        Their k-space equals the input's wherever the input measured it. Networks see slices that are larger than memory
        allows in bands of rows, with the same result.

        Args:
            images: the coarse images.
            scale: factor of the grid; one that the model was trained on.
            stage: announces the stages of the work.

        Raises:
            InvalidRequest: the model was not trained on this scale.
            UnsupportedInput: a pixel of the input or of the result is NaN or infinite.
            ExceedsMemory: the result needs more memory than the device has.
        """
        scales = sorted(set(self.model.manifest.trained_on["scales"]))
        if scale not in scales:
            raise InvalidRequest(f"expected scale {' or '.join(map(str, scales))}, got {scale}")
        # Everything is estimated from the finer grid: networks, data consistency and the result work on it.
        device, (slices, rows, columns) = self.model.device, images.pixels.shape
        fine = rows * columns * scale**2
        check_fits(device, slices=slices, samples=fine, pixels=fine)
        parts = []
        for batch in torch.from_numpy(images.pixels).split(slices_per_batch(device, samples=fine, pixels=fine)):
            unit = power_of_two(batch)
            if not unit.isfinite().all():
                raise UnsupportedInput("expected finite pixels, got NaN or infinity")
            finer = self._finer(divide(batch, unit).to(device), scale, stage)
            with stage("data_consistency"):
                # Copying to the host waits for a device: that time is part of the stage.
                parts.append(finer.cpu() * unit[:, None, None])
            report_slices(len(batch))
        geometry = images.geometry and images.geometry.refine(scale)
        return Images(require_finite(torch.cat(parts)).numpy(), geometry)

    def super_resolve_each(
        self, stacks: Sequence[Images], scale: int, *, stage: Stage = measure_nothing
    ) -> list[Images]:
        """Super-resolve stacks of one size in one pass; each result is what `super_resolve` returns for its stack.

        Args:
            stacks: coarse images of one size.
            scale: factor of the grid; one that the model was trained on.
            stage: announces the stages of the work, for all stacks together.

        Raises:
            InvalidRequest: the model was not trained on this scale.
            UnsupportedInput: a pixel of the input or of a result is NaN or infinite.
            ExceedsMemory: the results need more memory than the device has.
        """
        whole = self.super_resolve(Images(np.concatenate([stack.pixels for stack in stacks])), scale, stage=stage)
        # Stacks may have several slices each: the result is cut where one ends and the next begins.
        ends = np.cumsum([len(stack.pixels) for stack in stacks])[:-1]
        return [
            Images(finer, stack.geometry and stack.geometry.refine(scale))
            for finer, stack in zip(np.split(whole.pixels, ends), stacks, strict=True)
        ]

    def _finer(self, pixels: Float[Tensor, "slice row column"], scale: int, stage: Stage) -> Float[Tensor, "slice R C"]:
        """Interpolate, add detail by the network, and project on what was measured.

        Args:
            pixels: coarse images without units, on the model's device.
            scale: factor of the grid.
            stage: announces the stages of the work.

        Returns:
            Images on the finer grid, in the scale of `pixels`.
        """
        with stage("data_consistency"):
            image = upsample(pixels, scale)
            unit = intensity_scale(image)
            image = image / unit
            # The interpolated image has exactly the measured frequencies: it is A^H y, with one coil and the band as
            # mask.
            measured = as_complex(image)
            band = measured_band((pixels.shape[-2], pixels.shape[-1]), scale)
            mask = fft_order(band[None, None].to(image.dtype)).to(image.device)
            one_coil = torch.ones_like(measured[:1, None])
            rows = rows_per_band(image.device, rows=image.shape[-2], columns=len(image) * image.shape[-1])
        for denoiser in self.model.denoisers:
            with stage("denoise"):
                planes = image.unsqueeze(-1)
                image = denoise_in_bands(denoiser, planes, self.model.manifest, rows=rows).squeeze(-1)
            with stage("data_consistency"):
                # The band is symmetric, so that the imaginary part is rounding.
                image = self.model.consistency(as_complex(image), measured, mask, one_coil, self.model.step).real
        return image * unit


@torch.inference_mode()
def interpolate(images: Images, scale: int) -> Images:
    """Interpolate images by sinc: the networks' input, and the baseline.

    Args:
        images: Coarse images of shape (slice, row, column).
        scale: Factor of the grid, over the same field of view.

    Returns:
        Images in the units of the input.

    Raises:
        UnsupportedInput: A pixel of the input or of the result is NaN or infinite.
    """
    pixels = torch.from_numpy(images.pixels)
    unit = power_of_two(pixels)
    if not unit.isfinite().all():
        raise UnsupportedInput("expected finite pixels, got NaN or infinity")
    finer = upsample(divide(pixels, unit), scale) * unit[:, None, None]
    return Images(require_finite(finer).numpy(), images.geometry and images.geometry.refine(scale))
