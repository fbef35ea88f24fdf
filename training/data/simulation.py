"""Simulated measurements: slices to examples for reconstruction.

The volumes are magnitude images: phase, coils and noise are simulated here. Every example is drawn afresh from a
generator seeded by (seed, step), so that a resumed run sees the examples that it would have seen.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float
from kdmri_training.data.fields import complex_normal, simulate_phase, simulate_sensitivities, smooth_field
from kdmri_training.data.views import random_view
from kdmri_training.data.volumes import Slices
from numpy.random import Generator
from torch import Tensor

from kdmri.physics.acquisition import Acquisition
from kdmri.physics.sampling import MASKS, centre_lines, variable_density_mask

SHADES = 4
"""Knots along each axis of the field by which coils shade the image."""


@dataclass(frozen=True)
class Simulation:
    """Ranges of simulated measurements; recipes/reconstruction.toml has the numbers used."""

    batch: int
    pixels: int
    """Rows times columns of a training image."""
    columns: tuple[int, ...]
    """Sizes of the phase-encode axis, one drawn a batch: images are brought to it whole, rows are cropped."""
    accelerations: tuple[float, float]
    noise: float
    """Largest standard deviation of the noise, as a share of the bright tissue."""
    phase_ripple: float
    """Largest deviation, in radians, of the phase from a smooth polynomial: vessels, air and metal bend it locally."""
    shading: float
    """Largest standard deviation of the logarithm of the brightness over the image, as receive coils shade it."""
    noise_exponent: float
    """Rarity of strong noise: its deviation is `noise` times a uniform number to this power."""
    coils: int
    multi_coil: float
    """Share of batches with `coils` coils; the others have one."""
    by_volume: bool = False
    """Draw volumes, then slices, as Slices.draw does."""
    steepest_phase: float = 1.0
    """Largest `steepness` of simulate_phase. Most phases are near 1: it is drawn as 1 + (steepest - 1) u^3."""
    close: float = 0.0
    """Share of images whose field of view ends where the patient does (`tight_fov`)."""
    gamma: float = 0.0
    """Largest logarithm of the power that an image is raised to, either way: fat far brighter than all else, or not."""


@dataclass(frozen=True)
class Measurement:
    """A batch for DCCNN, scaled so that bright tissue is about 1."""

    zero_filled: Complex[Tensor, "batch row column"]
    mask: Float[Tensor, "batch 1 row column"]
    sensitivities: Complex[Tensor, "batch coil row column"]
    target: Complex[Tensor, "batch row column"]

    def to(self, device: torch.device) -> "Measurement":
        """Copy the batch to a device."""
        return self._map(lambda tensor: tensor.to(device))

    def share_of(self, rank: int, processes: int) -> "Measurement":
        """Return every `processes`-th example, beginning with number `rank`."""
        return self._map(lambda tensor: tensor[rank::processes])

    def _map(self, change: Callable[[Tensor], Tensor]) -> "Measurement":
        return Measurement(change(self.zero_filled), change(self.mask), change(self.sensitivities), change(self.target))

    def inputs(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the arguments of DCCNN."""
        return self.zero_filled, self.mask, self.sensitivities


def measure(
    image: Complex[Tensor, "batch row column"],
    mask: Float[Tensor, "batch 1 row column"],
    sensitivities: Complex[Tensor, "batch coil row column"],
    noise: Float[Tensor, "batch 1 1 1"],
    rng: Generator,
) -> Measurement:
    """y = M (F S x + n), scaled, with the zero-filled image that a network starts from.

    Args:
        image: x, the truth.
        mask: M, 1 where a sample is measured.
        sensitivities: S.
        noise: standard deviation of n.
        rng: source of n.
    """
    acquisition = Acquisition.simulate(image, mask, sensitivities, noise * complex_normal(sensitivities.shape, rng))
    scale = acquisition.scale
    return Measurement(acquisition.zero_filled / scale, mask, sensitivities, image / scale)


def reconstruction_batch(slices: Slices, simulation: Simulation, rng: Generator) -> Measurement:
    """Draw a batch of simulated acquisitions, each with a mask, phase, sensitivities and noise of its own.

    Args:
        slices: magnitude images.
        simulation: ranges to draw from.
        rng: source of randomness.
    """
    # The order of draws is part of every recipe: another order gives other batches, and published losses could not be
    # reproduced. Features that a recipe turns off draw nothing, for the same reason.
    columns = int(rng.choice(simulation.columns))
    # A multiple of 8 rows, so that folded and coarser grids of a network need no padding there.
    shape = (simulation.pixels // columns // 8 * 8, columns)
    evenly = simulation.by_volume
    close, gamma = simulation.close, simulation.gamma
    views = [random_view(slices.draw(rng, by_volume=evenly), shape, rng, close=close) for _ in range(simulation.batch)]
    magnitude = torch.stack(views)
    if gamma:
        powers = torch.tensor(rng.uniform(-gamma, gamma, simulation.batch), dtype=torch.float32).exp()
        magnitude = magnitude ** powers[:, None, None]
    if simulation.shading:
        shades = [simulation.shading * rng.random() * smooth_field(shape, SHADES, rng) for _ in range(simulation.batch)]
        magnitude = magnitude * torch.stack(shades).exp()
    coils = simulation.coils if rng.random() < simulation.multi_coil else 1
    maps = torch.stack([simulate_sensitivities(shape, coils, rng) for _ in range(simulation.batch)])
    ripples = [simulation.phase_ripple and simulation.phase_ripple * rng.random() for _ in range(simulation.batch)]
    beyond = simulation.steepest_phase - 1
    steepness = 1 + beyond * rng.random(simulation.batch) ** 3 if beyond else [1.0] * simulation.batch
    phase = torch.stack(
        [simulate_phase(shape, rng, ripple=r, steepness=s) for r, s in zip(ripples, steepness, strict=True)]
    )
    masks = torch.stack([_draw_mask(columns, simulation, rng) for _ in range(simulation.batch)])
    # A power of a uniform number: most scans have little noise, few have much.
    deviation = simulation.noise * rng.random(simulation.batch) ** simulation.noise_exponent
    noise = torch.tensor(deviation, dtype=torch.float32)
    mask = masks[:, None, None, :].expand(-1, 1, *shape).float().contiguous()
    return measure(magnitude * phase, mask, maps, noise[:, None, None, None], rng)


@dataclass(frozen=True)
class Undersampling:
    """KD-MRI's measurements: real images without noise, one coil, Schlemper's variable-density masks."""

    batch: int
    pixels: int
    """Rows times columns of a training image, as in Simulation."""
    columns: tuple[int, ...]
    accelerations: tuple[int, ...]
    """One drawn for every image."""
    centre_lines: int


def undersampled_batch(slices: Slices, undersampling: Undersampling, rng: Generator) -> Measurement:
    """Draw a batch of undersampled slices, a mask for each; nothing else is simulated.

    Args:
        slices: magnitude images.
        undersampling: ranges to draw from.
        rng: source of randomness.
    """
    # One size for a batch, and about as many pixels whatever the size: memory and time of a step stay the same.
    columns = int(rng.choice(undersampling.columns))
    shape = (undersampling.pixels // columns // 8 * 8, columns)
    images, masks = [], []
    for _ in range(undersampling.batch):
        images.append(random_view(slices.draw(rng), shape, rng))
        acceleration = rng.choice(undersampling.accelerations)
        masks.append(torch.from_numpy(variable_density_mask(columns, acceleration, undersampling.centre_lines, rng)))
    mask = torch.stack(masks)[:, None, None, :].expand(-1, 1, *shape).float().contiguous()
    image = torch.stack(images).to(torch.complex64)
    return measure(image, mask, torch.ones_like(image)[:, None], torch.zeros(len(image), 1, 1, 1), rng)


def _draw_mask(columns: int, simulation: Simulation, rng: Generator) -> Tensor:
    acceleration = rng.uniform(*simulation.accelerations)
    # Any pattern and any width of the centre near the usual one: scanners choose both, and a client need not say which.
    pattern = rng.choice(list(MASKS))
    lines = max(2, round(centre_lines(columns, acceleration) * rng.uniform(0.7, 1.4)))
    return torch.from_numpy(MASKS[pattern](columns, acceleration, lines, rng))
