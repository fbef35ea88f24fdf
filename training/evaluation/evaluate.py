"""Scores of bundles and of plain baselines on whole volumes of the data set.

The volumes are magnitude images: k-space is simulated with a smooth phase, without noise, one coil. Not raw data.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from kdmri_training.data.fields import simulate_phase
from kdmri_training.data.volumes import load_volume
from scipy.ndimage import map_coordinates

from kdmri.data.images import Images
from kdmri.data.kspace import KSpace
from kdmri.physics.fourier import fft2c
from kdmri.physics.resampling import downsample, upsample
from kdmri.physics.sampling import centre_lines, random_mask
from kdmri.quality import metrics
from kdmri.runtime.model import Model
from kdmri.runtime.reconstructor import Reconstructor, zero_filled
from kdmri.runtime.superresolver import SuperResolver

TEST_SET = (
    "test split: 4 brain, 5 cardiac and 1 spine volumes of subjects not trained on, every fourth slice; "
    "magnitude, simulated k-space"
)
EVERY = 4
"""Distance of scored slices. Neighbours are alike, so that a quarter of them gives the same means in a quarter of the
time."""
ACCELERATIONS = (4, 8)
SCALES = (2, 4)


@dataclass(frozen=True)
class Score:
    """Figures of one method on one volume."""

    task: str
    method: str
    anatomy: str
    volume: str
    condition: str
    psnr: float
    ssim: float
    nmse: float
    hfn: float


def evaluate(model: Model, data: Path, split: str) -> list[Score]:
    """Score a model and its baselines on every volume of a split, at accelerations 4 and 8 or scales 2 and 4.

    Args:
        model: the model.
        data: folder with volumes/<split>/<anatomy>/*.nii.gz.
        split: val to choose by, test to report.

    Raises:
        FileNotFoundError: the split has no volume.
    """
    files = sorted((data / "volumes" / split).glob("*/*.nii.gz"))
    if not files:
        raise FileNotFoundError(f"expected volumes/{split}/<anatomy>/*.nii.gz in the data folder, found none")
    score_file = _reconstruction if model.manifest.task == "reconstruction" else _enlargement
    return [entry for file in files for entry in score_file(model, file)]


def summarise(scores: list[Score]) -> dict[str, dict[str, float]]:
    """Average every figure over volumes, by "anatomy condition method"."""
    groups: dict[str, list[Score]] = defaultdict(list)
    for entry in scores:
        groups[f"{entry.anatomy} {entry.condition} {entry.method}"].append(entry)
    figures = ("psnr", "ssim", "nmse", "hfn")
    return {
        key: {figure: round(float(np.mean([getattr(s, figure) for s in group])), 5) for figure in figures}
        for key, group in sorted(groups.items())
    }


def score(
    task: str, method: str, anatomy: str, volume: str, condition: str, truth: np.ndarray, image: np.ndarray
) -> Score:
    """Compute all figures of an image against the truth.

    Args:
        task: name of the task in tables.
        method: name of the model's role or of the baseline.
        anatomy: name of the anatomy or of the scan.
        volume: name of the volume, or of the mask's seed.
        condition: acceleration or scale, such as 4x.
        truth: magnitudes (slice, row, column).
        image: magnitudes of the same shape.
    """
    psnr, ssim = metrics.psnr(truth, image), metrics.ssim(truth, image)
    nmse, hfn = metrics.nmse(truth, image), metrics.hfn(truth, image)
    return Score(task, method, anatomy, volume, condition, psnr, ssim, nmse, hfn)


def _labels(file: Path) -> tuple[str, str]:
    """Return the names of anatomy and volume."""
    return file.parent.name, file.name.removesuffix(".nii.gz")


def simulate_kspace(truth: np.ndarray, acceleration: float, seed: int) -> KSpace:
    """Simulate single-coil k-space of a magnitude volume with a smooth phase and one random mask for all slices.

    Args:
        truth: magnitudes (slice, row, column).
        acceleration: lines of the grid over measured lines.
        seed: seed of phase and mask.
    """
    # One generator for lines and phases, in this order, which published scores depend on.
    rng = np.random.default_rng(seed)
    rows, columns = truth.shape[1:]
    lines = random_mask(columns, acceleration, centre_lines(columns, acceleration), rng)
    phase = torch.stack([simulate_phase((rows, columns), rng) for _ in truth])
    samples = fft2c(torch.from_numpy(truth) * phase) * torch.from_numpy(lines)
    return KSpace(samples.unsqueeze(1).numpy(), np.broadcast_to(lines, (1, rows, columns)), (rows, columns))


def _reconstruction(model: Model, file: Path) -> Iterator[Score]:
    # One seed for all methods: every one gets the same lines and the same phase.
    truth = load_volume(file)[::EVERY]
    for acceleration in ACCELERATIONS:
        kspace = simulate_kspace(truth, acceleration, seed=0)
        answers = {
            "zero-filled": zero_filled(kspace).pixels,
            model.manifest.role: Reconstructor(model).reconstruct(kspace).pixels,
        }
        for method, image in answers.items():
            yield score("reconstruction", method, *_labels(file), f"{acceleration}x", truth, image)


def _enlargement(model: Model, file: Path) -> Iterator[Score]:
    volume = torch.from_numpy(load_volume(file)[::EVERY])
    for scale in SCALES:
        # Cropped to a multiple of the scale, which truncation of k-space needs.
        rows, columns = (size // scale * scale for size in volume.shape[1:])
        truth = volume[:, :rows, :columns]
        coarse = downsample(truth, scale)
        answers = {
            "bicubic": bicubic(coarse.numpy(), scale),
            "sinc": upsample(coarse, scale).numpy(),
            model.manifest.role: SuperResolver(model).super_resolve(Images(coarse.numpy()), scale).pixels,
        }
        for method, image in answers.items():
            yield score("super-resolution", method, *_labels(file), f"{scale}x", truth.numpy(), image)


def bicubic(coarse: np.ndarray, scale: int) -> np.ndarray:
    """Interpolate by cubic splines onto the grid of `upsample`, slice by slice."""
    # Pixel centres of the finer grid in units of the coarse one: both cover the same field of view.
    grid = [(np.arange(size * scale) + 0.5) / scale - 0.5 for size in coarse.shape[1:]]
    points = np.meshgrid(*grid, indexing="ij")
    return np.stack([map_coordinates(image, points, order=3, mode="nearest") for image in coarse])
