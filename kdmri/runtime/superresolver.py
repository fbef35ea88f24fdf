"""Coarse image in, finer image out: sinc interpolation, detail by the network, projection on what was measured."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from kdmri.data.images import Images
from kdmri.errors import InvalidRequest
from kdmri.physics.consistency import fft_order
from kdmri.physics.resampling import as_complex, measured_band, upsample
from kdmri.physics.scaling import intensity_scale
from kdmri.runtime.memory import slices_per_batch
from kdmri.runtime.model import Model
from kdmri.runtime.stages import Stage, untimed


class SuperResolver:
    """A super-resolution model made runnable."""

    def __init__(self, model: Model) -> None:
        self.model = model

    @torch.inference_mode()
    def super_resolve(self, images: Images, scale: int, *, stage: Stage = untimed) -> Images:
        """Images on a grid `scale` times finer over the same field of view, in the units of the input.

        Their k-space equals the input's where the input measured it. Raises InvalidRequest for a scale not trained on.
        """
        offered = sorted(set(self.model.manifest.trained_on["scales"]))
        if scale not in offered:
            raise InvalidRequest(f"expected scale {' or '.join(map(str, offered))}, got {scale}")
        pixels = torch.from_numpy(images.pixels)
        fine = pixels[0].numel() * scale**2
        size = slices_per_batch(self.model.device, samples=fine, pixels=fine)
        parts = []
        for batch in pixels.split(size):
            finer = self._finer(batch.to(self.model.device), scale, stage)
            with stage("data_consistency"):
                # A device is waited for here: its time is part of the stage.
                parts.append(finer.cpu())
        geometry = images.geometry and images.geometry.refine(scale)
        return Images(torch.cat(parts).numpy(), geometry)

    def super_resolve_each(self, stacks: Sequence[Images], scale: int, *, stage: Stage = untimed) -> list[Images]:
        """What `super_resolve` answers to each of several stacks of one size, from one pass of them all."""
        whole = self.super_resolve(Images(np.concatenate([stack.pixels for stack in stacks])), scale, stage=stage)
        ends = np.cumsum([len(stack.pixels) for stack in stacks])[:-1]
        return [
            Images(finer, stack.geometry and stack.geometry.refine(scale))
            for finer, stack in zip(np.split(whole.pixels, ends), stacks, strict=True)
        ]

    def _finer(self, pixels: Float[Tensor, "slice row column"], scale: int, stage: Stage) -> Float[Tensor, "slice R C"]:
        with stage("data_consistency"):
            image = upsample(pixels, scale)
            unit = intensity_scale(image)
            image = image / unit
            measured = as_complex(image)
            band = measured_band((pixels.shape[-2], pixels.shape[-1]), scale)
            mask = fft_order(band[None, None].to(image.dtype)).to(image.device)
            one_coil = torch.ones_like(measured[:1, None])
        for denoiser in self.model.denoisers:
            with stage("denoise"):
                image = denoiser(image.unsqueeze(-1)).squeeze(-1)
            with stage("data_consistency"):
                image = self.model.consistency(as_complex(image), measured, mask, one_coil, self.model.step).real
        return image * unit
