"""Answers with their evidence and their true errors, from simulated scans of volumes and from raw scans.

Every example is a scan of one to three slices at an acceleration, a noise level and with coils drawn at random: what
the prediction of quality is calibrated on (validation split) and judged by (test split).
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from kdmri_training.data.fields import simulate_phase, simulate_sensitivities
from kdmri_training.data.volumes import load_volume
from kdmri_training.evaluation import raw
from numpy import ndarray
from numpy.random import Generator

from kdmri.data.evidence import Evidence
from kdmri.data.kspace import KSpace
from kdmri.formats.kspace import reader
from kdmri.operations.undersampling import keep_lines
from kdmri.phantoms import complex_noise
from kdmri.physics.acquisition import Acquisition
from kdmri.physics.sampling import MASKS, centre_lines
from kdmri.quality import metrics
from kdmri.quality.cross_validation import withhold
from kdmri.runtime import Reconstructor, zero_filled
from kdmri.runtime.model import Model

ACCELERATIONS = (2.0, 10.0)
NOISE = 0.1
"""Largest standard deviation of the noise in either part of a sample, as a share of the bright tissue."""
NOISE_EXPONENT = 2.0
"""How rare strong noise is: its deviation is NOISE times a uniform number to this power."""
NOISY = 0.75
"""Share of scans with noise."""
AIR = 0.1
"""Largest magnitude of a slice of air, as a share of the volume's largest."""
COILS = (1, 1, 1, 4)
"""Numbers of simulated coils, each as often as it stands here."""
SLICES = (1, 1, 2)
RAW_ACCELERATIONS = (3, 4, 6, 8)
RAW_SEEDS = range(4)
RAW_NOISE = 0.03
BRIGHT = 99.5
"""Percentile of the image that is bright tissue."""

Volume = Float[ndarray, "slice row column"]


@dataclass(frozen=True)
class Example:
    """One answer of a model, what is known of it without the truth, and its true error."""

    volume: str
    anatomy: str
    slices: int
    coils: int
    acceleration: float
    noise: float
    """Deviation that was simulated, as a share of the bright tissue."""
    evidence: Evidence
    peak_ratio: float
    """Largest magnitude of the answer over its root mean square."""
    error: float
    """True relative error: |answer - truth| / |truth|."""
    psnr: float


def simulated_examples(model: Model, data: Path, split: str, count: int) -> Iterator[Example]:
    """Simulate scans of every volume of a split, and reconstruct them with and without withheld samples.

    Args:
        model: The model that answers.
        data: Folder of the data set.
        split: Name of the split.
        count: Number of scans of each volume; their parameters are drawn from the volume's name.
    """
    files = sorted((data / "volumes" / split).glob("*/*.nii.gz"))
    # Volume by volume in turn, so that a run that is stopped early has seen all of them equally.
    for turn, file in product(range(count), files):
        name = file.name.removesuffix(".nii.gz")
        # Seeded by the volume's name: other volumes, or another order of files, change none of its scans.
        rng = np.random.default_rng([zlib.crc32(name.encode()), turn])
        volume = _bright_slices(file)
        # Few slices, because a scan of many costs as much as many scans, and its slices are alike.
        slices = min(int(rng.choice(SLICES)), len(volume))
        start = int(rng.integers(len(volume) - slices + 1))
        truth = volume[start : start + slices]
        coils, acceleration = int(rng.choice(COILS)), float(rng.uniform(*ACCELERATIONS))
        noise = NOISE * rng.random() ** NOISE_EXPONENT if rng.random() < NOISY else 0.0
        scan = simulate(truth, coils, acceleration, noise, rng)
        if found := example(model, scan, truth, (name, file.parent.name), noise):
            yield found


@cache
def _bright_slices(file: Path) -> Volume:
    """Load a volume without slices of air, relative to its 99.9th percentile."""
    volume = load_volume(file)
    return volume[volume.max(axis=(1, 2)) > AIR * volume.max()] / np.percentile(volume, 99.9)


def simulate(truth: Volume, coils: int, acceleration: float, noise: float, rng: Generator) -> KSpace:
    """Measure a magnitude volume with simulated phase, coils and noise, and lines of a mask of any kind.

    Args:
        truth: Magnitudes.
        coils: Number of coils.
        acceleration: Columns over measured columns.
        noise: Standard deviation in either part of a sample, as a share of the bright tissue.
        rng: Draws phase, coils, noise and lines.
    """
    rows, columns = truth.shape[1:]
    # Most phases are near 1, as in training (Simulation.steepest_phase).
    steepness = 1 + 2 * rng.random() ** 3
    phase = torch.stack(
        [simulate_phase((rows, columns), rng, ripple=0.3 * rng.random(), steepness=steepness)] * len(truth)
    )
    # Four central lines at least: fewer can't calibrate coils, and such a scan would be refused.
    lines = MASKS[str(rng.choice(list(MASKS)))](columns, acceleration, max(4, centre_lines(columns, acceleration)), rng)
    maps = simulate_sensitivities((rows, columns), coils, rng)[None]
    strength = noise * float(np.percentile(truth, BRIGHT))
    disturbance = torch.from_numpy(strength * complex_noise((len(truth), coils, rows, columns), rng))
    image = torch.from_numpy(truth) * phase
    mask = torch.from_numpy(lines).float().expand(1, 1, rows, columns)
    samples = Acquisition.simulate(image, mask, maps, disturbance.to(torch.complex64)).samples.numpy()
    return KSpace(samples, np.broadcast_to(lines, (1, rows, columns)), (rows, columns))


def example(model: Model, scan: KSpace, truth: Volume, labels: tuple[str, str], noise: float) -> Example | None:
    """Reconstruct a scan with and without withheld samples; None if it has too few lines to withhold any.

    Args:
        model: The model that answers.
        scan: The undersampled scan.
        truth: The images that it is a scan of.
        labels: Names of volume and anatomy.
        noise: Deviation of the noise in it.
    """
    # The answer is that of the whole scan: what is withheld serves the evidence alone, and costs the answer nothing.
    part = withhold(scan)
    if part is None:
        return None
    reconstructor = Reconstructor(model)
    answer, evidence = reconstructor.reconstruct(scan), reconstructor.reconstruct(part).evidence
    if evidence is None:
        return None
    pixels = answer.pixels
    return Example(
        *labels,
        len(truth),
        scan.shape[1],
        scan.acceleration,
        noise,
        evidence,
        float(pixels.max() / np.sqrt(np.mean(np.square(pixels)))),
        metrics.nmse(truth, pixels) ** 0.5,
        metrics.psnr(truth, pixels),
    )


def raw_examples(model: Model, data: Path) -> Iterator[Example]:
    """Undersample the fully sampled raw scans, as they are and with noise added, and reconstruct them.

    Args:
        model: The model that answers.
        data: Folder of the data set.
    """
    for seed, name, acceleration in product(RAW_SEEDS, raw.SCANS, RAW_ACCELERATIONS):
        full = reader.read(data / "kspace" / f"{name}.h5")
        truth = zero_filled(full).pixels
        # Every other scan is made noisier, so that genuine and strong noise are both among them.
        noise = RAW_NOISE * (seed % 2)
        measured = raw.add_noise(full, noise * float(np.percentile(truth, BRIGHT)), seed)
        scan = keep_lines(measured, acceleration, seed=seed)
        if found := example(model, scan, truth, (name, "raw"), noise):
            yield found
