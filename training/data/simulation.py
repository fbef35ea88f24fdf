"""Volumes to training examples. The volumes are magnitude images: phase, coils and noise are simulated here.

Every example is drawn afresh from a generator seeded by (seed, step): a resumed run sees what it would have seen.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import torch
from jaxtyping import Complex, Float, Float16
from numpy import ndarray
from numpy.random import Generator
from torch import Tensor
from torch.nn.functional import interpolate

from kdmri.physics.acquisition import Acquisition
from kdmri.physics.fourier import centre_crop, fft2c, ifft2c
from kdmri.physics.resampling import downsample, upsample
from kdmri.physics.sampling import MASKS, centre_lines, variable_density_mask
from kdmri.physics.scaling import intensity_scale

Slice = Float16[ndarray, "row column"]

RIPPLES = 16
"""Knots along each axis of the field by which the phase departs from a smooth one."""
SHADES = 4
"""And of the field by which coils shade the image."""
AIR = 0.1
"""Mean of a column, as a share of the brightest one's, below which it shows no patient."""
ISOTROPIC = 1.3
"""Longest over shortest side of voxels that are sliced in all planes."""


@dataclass(frozen=True)
class Slices:
    """The slices of a split."""

    images: list[Slice]
    volumes: list[int]
    """The number of the volume that each is of."""

    def draw(self, rng: Generator, *, by_volume: bool = False) -> Slice:
        """Any slice; or, `by_volume`, any slice of any volume: then anatomies of few or thin volumes are seen as often
        as they were scanned, not as their slices are many."""
        if not by_volume:
            return self.images[rng.integers(len(self.images))]
        first = np.flatnonzero(np.diff(self.volumes, prepend=-1))
        last = np.append(first[1:], len(self.images))
        volume = rng.integers(len(first))
        return self.images[rng.integers(first[volume], last[volume])]


def load_slices(root: Path, split: str, cache: Path, anatomy: str = "*") -> Slices:
    """All slices of a split, each scaled by its volume's 99.9th percentile; decoded once into `cache`.

    Volumes of nearly isotropic voxels are sliced in all three planes, as patients are. Slices of air (largest value
    below a tenth of the volume's) are left out.
    Raises FileNotFoundError where the split holds no volume.
    """
    packed = cache / f"{split}-{anatomy.replace('*', 'all')}-volumes.npz"
    if not packed.exists():
        files = sorted((root / "volumes" / split).glob(f"{anatomy}/*.nii.gz"))
        if not files:
            raise FileNotFoundError(f"expected volumes/{split}/{anatomy}/*.nii.gz in the data folder, found none")
        stacks = [_slices(file) for file in files]
        volumes = [number for number, stack in enumerate(stacks) for _ in stack]
        cache.mkdir(parents=True, exist_ok=True)
        # Under a name of its own until complete: two runs may start side by side.
        part = packed.with_suffix(f".{os.getpid()}.npz")
        np.savez(part, *[image for stack in stacks for image in stack], volumes=volumes)
        part.rename(packed)
    with np.load(packed) as archive:
        return Slices(
            [archive[name] for name in archive.files if name != "volumes"], [int(n) for n in archive["volumes"]]
        )


def load_volume(file: Path) -> Float[ndarray, "slice row column"]:
    """A volume of the data set in its own units, (row, column, slice) on disk."""
    return np.moveaxis(np.asarray(nibabel.load(file).dataobj, dtype=np.float32), -1, 0)


def _slices(file: Path) -> list[Slice]:
    volume = load_volume(file)
    volume = volume / np.percentile(volume, 99.9)
    spacing = nibabel.load(file).header.get_zooms()
    planes = (0, 1, 2) if max(spacing) < ISOTROPIC * min(spacing) else (0,)
    stacks = (np.moveaxis(volume, axis, 0) for axis in planes)
    return [image.astype(np.float16) for stack in stacks for image in stack if image.max() > 0.1]


@dataclass(frozen=True)
class Simulation:
    """How measurements are simulated; see recipes/reconstruction.toml for the numbers used."""

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
    """How rare strong noise is: its deviation is `noise` times a uniform number to this power."""
    coils: int
    multi_coil: float
    """Share of batches with `coils` coils; the others have one."""
    by_volume: bool = False
    """Of Slices.draw."""
    steepest_phase: float = 1.0
    """Largest `steepness` of simulate_phase. Most phases are near 1: it is drawn as 1 + (steepest - 1) u^3."""
    close: float = 0.0
    """Share of images whose field of view ends where the patient does, as `closer` makes it."""
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
        """The same on a device."""
        return Measurement(**{name: value.to(device) for name, value in vars(self).items()})

    def inputs(self) -> tuple[Tensor, Tensor, Tensor]:
        """The arguments of DCCNN."""
        return self.zero_filled, self.mask, self.sensitivities


def measure(
    image: Complex[Tensor, "batch row column"],
    mask: Float[Tensor, "batch 1 row column"],
    sensitivities: Complex[Tensor, "batch coil row column"],
    noise: Float[Tensor, "batch 1 1 1"],
    rng: Generator,
) -> Measurement:
    """y = M (F S x + n), and what a network starts from."""
    acquisition = Acquisition.simulate(image, mask, sensitivities, noise * _complex_normal(sensitivities.shape, rng))
    scale = acquisition.scale
    return Measurement(acquisition.zero_filled / scale, mask, sensitivities, image / scale)


def reconstruction_batch(slices: Slices, simulation: Simulation, rng: Generator) -> Measurement:
    """A batch of simulated acquisitions with masks, phases, sensitivities and noise of their own."""
    columns = int(rng.choice(simulation.columns))
    shape = (simulation.pixels // columns // 8 * 8, columns)
    evenly = simulation.by_volume
    close, gamma = simulation.close, simulation.gamma
    views = [_view(slices.draw(rng, by_volume=evenly), shape, rng, close=close) for _ in range(simulation.batch)]
    magnitude = torch.stack(views)
    if gamma:
        powers = torch.tensor(rng.uniform(-gamma, gamma, simulation.batch), dtype=torch.float32).exp()
        magnitude = magnitude ** powers[:, None, None]
    if simulation.shading:
        shades = [simulation.shading * rng.random() * _smooth(shape, SHADES, rng) for _ in range(simulation.batch)]
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
    deviation = simulation.noise * rng.random(simulation.batch) ** simulation.noise_exponent
    noise = torch.tensor(deviation, dtype=torch.float32)
    mask = masks[:, None, None, :].expand(-1, 1, *shape).float().contiguous()
    return measure(magnitude * phase, mask, maps, noise[:, None, None, None], rng)


@dataclass(frozen=True)
class Undersampling:
    """What KD-MRI measures: real images without noise, one coil, Schlemper's variable-density masks."""

    batch: int
    pixels: int
    """Rows times columns of a training image, as in Simulation."""
    columns: tuple[int, ...]
    accelerations: tuple[int, ...]
    """One drawn for every image."""
    centre_lines: int


def undersampled_batch(slices: Slices, undersampling: Undersampling, rng: Generator) -> Measurement:
    """A batch of undersampled slices, a mask for each; nothing else is simulated."""
    columns = int(rng.choice(undersampling.columns))
    shape = (undersampling.pixels // columns // 8 * 8, columns)
    images, masks = [], []
    for _ in range(undersampling.batch):
        images.append(_view(slices.draw(rng), shape, rng))
        acceleration = rng.choice(undersampling.accelerations)
        masks.append(torch.from_numpy(variable_density_mask(columns, acceleration, undersampling.centre_lines, rng)))
    mask = torch.stack(masks)[:, None, None, :].expand(-1, 1, *shape).float().contiguous()
    image = torch.stack(images).to(torch.complex64)
    return measure(image, mask, torch.ones_like(image)[:, None], torch.zeros(len(image), 1, 1, 1), rng)


def _draw_mask(columns: int, simulation: Simulation, rng: Generator) -> Tensor:
    acceleration = rng.uniform(*simulation.accelerations)
    kind = rng.choice(list(MASKS))
    lines = max(2, round(centre_lines(columns, acceleration) * rng.uniform(0.7, 1.4)))
    return torch.from_numpy(MASKS[kind](columns, acceleration, lines, rng))


def closer(plane: Float[Tensor, "row column"], rng: Generator) -> Float[Tensor, "row closer"]:
    """A field of view about as wide as what it shows; what lies beyond one side is seen at the other.

    So scanners are used: lines of k-space are time, and air is not worth it. The volumes have lost no time yet.
    """
    profile = plane.mean(dim=0)
    (seen,) = torch.nonzero(profile > AIR * profile.max(), as_tuple=True)
    first, last = int(seen[0]), int(seen[-1]) + 1
    width = min(round((last - first) * rng.uniform(0.85, 1.15)), plane.shape[1])
    start = (first + last - width) // 2 + round(width * rng.uniform(-0.1, 0.1))
    closed = torch.zeros(plane.shape[0], width)
    return closed.index_add(1, (torch.arange(plane.shape[1]) - start) % width, plane)


def _view(image: Slice, shape: tuple[int, int], rng: Generator, *, close: float = 0.0) -> Float[Tensor, "r c"]:
    """A random flip or transpose of a slice with all of its columns and a window of its rows."""
    plane = torch.from_numpy(image.astype(np.float32))
    if rng.random() < 0.5:
        plane = plane.mT
    flips = [axis for axis in (0, 1) if rng.random() < 0.5]
    plane = plane.flip(flips)
    if close and rng.random() < close:
        plane = closer(plane, rng)
        if plane.shape[1] < shape[1]:
            size = (round(plane.shape[0] * shape[1] / plane.shape[1]), shape[1])
            plane = interpolate(plane[None, None], size, mode="bicubic")[0, 0].clamp(min=0)
    rows, columns = plane.shape
    if columns > shape[1]:
        # All columns are kept: k-space is truncated to larger pixels, as in a shorter scan. Rows shrink by the same
        # share, so that shapes stay true.
        smaller = (max(shape[0], round(rows * shape[1] / columns)), shape[1])
        if smaller[0] < rows:
            spectrum = centre_crop(fft2c(plane.to(torch.complex64)), smaller)
            shrink = (smaller[0] * smaller[1] / (rows * columns)) ** 0.5
            plane = ifft2c(spectrum).abs() * shrink
    rows, columns = plane.shape
    top = int(rng.integers(max(rows - shape[0], 0) + 1))
    plane = plane[top : top + shape[0]]
    left = max(columns - shape[1], 0) // 2
    plane = plane[:, left : left + shape[1]]
    canvas = torch.zeros(shape)
    row, column = (shape[0] - plane.shape[0]) // 2, (shape[1] - plane.shape[1]) // 2
    canvas[row : row + plane.shape[0], column : column + plane.shape[1]] = plane
    return canvas


def _complex_normal(shape: tuple[int, ...], rng: Generator) -> Tensor:
    real, imaginary = rng.standard_normal((2, *shape), dtype=np.float32)
    return torch.complex(torch.from_numpy(real), torch.from_numpy(imaginary))


def _grid(shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    row, column = (torch.linspace(-1, 1, n) for n in shape)
    return row[:, None], column[None, :]


def _smooth(shape: tuple[int, int], knots: int, rng: Generator) -> Float[Tensor, "row column"]:
    """A random field of standard deviation about 1: `knots` independent numbers along each axis, interpolated."""
    coarse = torch.from_numpy(rng.standard_normal((1, 1, knots, knots), dtype=np.float32))
    return interpolate(coarse, shape, mode="bicubic")[0, 0]


def simulate_phase(
    shape: tuple[int, int], rng: Generator, *, ripple: float = 0.0, steepness: float = 1.0
) -> Complex[Tensor, "row column"]:
    """exp(i phi) with phi a random polynomial of order 3, as off-resonance and coils make it, and a finer field on top.

    Args:
        ripple: the finer field's standard deviation in radians.
        steepness: of the polynomial. At 1 most of the field of view keeps its energy within two lines of k-space's
            centre; gradient echoes near the sinuses lie ten lines off, where few are measured.
    """
    row, column = _grid(shape)
    phi = torch.zeros(shape)
    for i in range(4):
        for j in range(4 - i):
            phi = phi + float(rng.normal(0, 1.2 * steepness if i + j else np.pi)) * row**i * column**j
    if ripple:
        phi = phi + ripple * _smooth(shape, RIPPLES, rng)
    return torch.polar(torch.ones(shape), phi)


def simulate_sensitivities(shape: tuple[int, int], coils: int, rng: Generator) -> Complex[Tensor, "coil row column"]:
    """Coils on a ring around the object: Gaussian falls-off with linear phases, normalised to sum |S|^2 = 1."""
    if coils == 1:
        return torch.ones((1, *shape), dtype=torch.complex64)
    row, column = _grid(shape)
    angles = rng.uniform(0, 2 * np.pi) + 2 * np.pi * np.arange(coils) / coils + rng.normal(0, 0.2, coils)
    maps = []
    for angle in angles:
        radius, width = rng.uniform(0.9, 1.4), rng.uniform(0.6, 1.1)
        distance = (row - radius * np.sin(angle)) ** 2 + (column - radius * np.cos(angle)) ** 2
        slope, offset = rng.normal(0, 1, 2), rng.uniform(0, 2 * np.pi)
        maps.append(torch.polar(torch.exp(-distance / (2 * width**2)), offset + slope[0] * row + slope[1] * column))
    stacked = torch.stack(maps).to(torch.complex64)
    return stacked / torch.linalg.vector_norm(stacked, dim=0)


@dataclass(frozen=True)
class Enlargement:
    """A batch for VDSR: sinc-interpolated patches, the truth, both scaled so that bright tissue is about 1."""

    interpolated: Float[Tensor, "batch row column"]
    target: Float[Tensor, "batch row column"]

    def to(self, device: torch.device) -> "Enlargement":
        """The same on a device."""
        return Enlargement(self.interpolated.to(device), self.target.to(device))

    def inputs(self) -> tuple[Tensor]:
        """The arguments of VDSR."""
        return (self.interpolated,)


@dataclass(frozen=True)
class Truncation:
    """How low resolution is simulated: k-space truncated by one of `scales`, patches of `patch` pixels a side."""

    batch: int
    patch: int
    scales: tuple[int, ...]
    by_volume: bool = False
    """Of Slices.draw."""


def enlargement_batch(slices: Slices, truncation: Truncation, rng: Generator) -> Enlargement:
    """Patches of slices whose k-space was truncated, interpolated back, with the same view of the truth."""
    evenly = truncation.by_volume
    pairs = [_truncated(slices.draw(rng, by_volume=evenly), truncation, rng) for _ in range(truncation.batch)]
    return Enlargement(*(torch.stack(planes) for planes in zip(*pairs, strict=True)))


def _truncated(image: Slice, truncation: Truncation, rng: Generator) -> tuple[Tensor, Tensor]:
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
