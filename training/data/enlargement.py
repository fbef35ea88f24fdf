"""Slices to examples for super-resolution: images whose k-space was truncated, and the truth."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from kdmri_training.data.volumes import Slice, Slices
from numpy.random import Generator
from torch import Tensor

from kdmri.physics.resampling import downsample, upsample
from kdmri.physics.scaling import intensity_scale


@dataclass(frozen=True)
class Enlargement:
    """A batch for VDSR: sinc-interpolated patches, the truth, both scaled so that bright tissue is about 1."""

    interpolated: Float[Tensor, "batch row column"]
    target: Float[Tensor, "batch row column"]

    def to(self, device: torch.device) -> "Enlargement":
        """Copy the batch to a device."""
        return Enlargement(self.interpolated.to(device), self.target.to(device))

    def share_of(self, rank: int, processes: int) -> "Enlargement":
        """Return every `processes`-th example, beginning with number `rank`."""
        return Enlargement(self.interpolated[rank::processes], self.target[rank::processes])

    def inputs(self) -> tuple[Tensor]:
        """Return the arguments of VDSR."""
        return (self.interpolated,)


@dataclass(frozen=True)
class Truncation:
    """Simulated low resolution: k-space truncated by one of `scales`, patches of `patch` pixels a side."""

    batch: int
    patch: int
    scales: tuple[int, ...]
    by_volume: bool = False
    """Draw volumes, then slices, as Slices.draw does."""


def enlargement_batch(slices: Slices, truncation: Truncation, rng: Generator) -> Enlargement:
    """Draw patches of slices whose k-space was truncated, interpolated back, beside the same patches of the truth.

    Args:
        slices: magnitude images.
        truncation: ranges to draw from.
        rng: source of randomness.
    """
    evenly = truncation.by_volume
    pairs = [_truncate(slices.draw(rng, by_volume=evenly), truncation, rng) for _ in range(truncation.batch)]
    return Enlargement(*(torch.stack(planes) for planes in zip(*pairs, strict=True)))


def _truncate(image: Slice, truncation: Truncation, rng: Generator) -> tuple[Tensor, Tensor]:
    scale = int(rng.choice(truncation.scales))
    rows, columns = (size // scale * scale for size in image.shape)
    fine = torch.from_numpy(image[:rows, :columns].astype(np.float32))
    if rng.random() < 0.5:
        fine = fine.mT
    fine = fine.flip([axis for axis in (0, 1) if rng.random() < 0.5])
    interpolated = upsample(downsample(fine, scale), scale)
    unit = intensity_scale(interpolated[None])[0]
    top, left = (int(rng.integers(max(size - truncation.patch, 0) + 1)) for size in fine.shape)
    window = (slice(top, top + truncation.patch), slice(left, left + truncation.patch))
    return interpolated[window] / unit, fine[window] / unit
