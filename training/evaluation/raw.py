"""Scores on raw k-space, which no network was trained on: genuine phase, noise and coils.

Fully sampled scans lose lines to `kdmri undersample`'s random masks, as they are and with strong noise added.
Compressed sensing by BART is held alongside where `bart` is installed: at the regularisation that serves it best on
each scan, chosen with the truth at hand.
"""

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from jaxtyping import Complex64
from kdmri_training.evaluation.evaluate import ACCELERATIONS, Score, score
from numpy import ndarray
from torch import Tensor

from kdmri.data.kspace import KSpace
from kdmri.formats.kspace import reader as formats
from kdmri.operations.undersampling import keep_lines
from kdmri.runtime import Reconstructor, zero_filled
from kdmri.runtime.measurement import measurements
from kdmri.runtime.model import Model

SCANS = ("brain_sagittal_1ch", "brain_16ch")
SEEDS = range(5)
REGULARISATIONS = (0.001, 0.005, 0.01, 0.03)
NOISES = (0.0, 0.1)
"""Standard deviations of what is added to a sample's real part and to its imaginary part, as shares of the bright
tissue (the 99.5th percentile of the image)."""


def evaluate(models: list[Model], data: Path) -> Iterator[Score]:
    """Score every reconstruction model, zero-filling and BART on every scan, acceleration and seed."""
    for name in SCANS:
        full = formats.read(data / "kspace" / f"{name}.h5")
        truth = zero_filled(full).pixels
        for acceleration, noise, seed in product(ACCELERATIONS, NOISES, SEEDS):
            condition = f"{acceleration}x, {noise:.0%} noise" if noise else f"{acceleration}x"
            measured = add_noise(full, noise * float(np.percentile(truth, 99.5)), seed)
            retrospective = keep_lines(measured, acceleration, seed=seed)
            answers = {"zero-filled": zero_filled(retrospective).pixels}
            answers |= {model.manifest.role: Reconstructor(model).reconstruct(retrospective).pixels for model in models}
            if shutil.which("bart"):
                tried = (bart(retrospective, regularisation) for regularisation in REGULARISATIONS)
                # Chosen with the truth at hand, which favours BART: no comparison can be in kdmri's favour by this
                # choice.
                answers["BART"] = min(tried, key=lambda image: float(np.linalg.norm(image - truth)))
            for method, image in answers.items():
                yield score("raw k-space", method, name, f"seed {seed}", condition, truth, image)


def add_noise(kspace: KSpace, deviation: float, seed: int) -> KSpace:
    """Add complex white noise to k-space, the same amount in every coil.

    Args:
        kspace: the scan.
        deviation: standard deviation of the real part and of the imaginary part.
        seed: seed of the noise.
    """
    # A stream of its own: the seed alone draws the mask, and noise must not depend on how many lines that takes.
    real, imaginary = np.random.default_rng([seed, 1]).standard_normal((2, *kspace.samples.shape), dtype=np.float32)
    samples = kspace.samples + np.float32(deviation) * (real + 1j * imaginary)
    return replace(kspace, samples=samples.astype(np.complex64))


def bart(kspace: KSpace, regularisation: float) -> np.ndarray:
    """Reconstruct by wavelet compressed sensing, `bart pics -S -R W:3:0:L -i 60`, with kdmri's sensitivities.

    Returns:
        Magnitudes (slice, row, column) in the scan's units.
    """
    images = []
    with TemporaryDirectory() as name:
        for measurement in measurements(kspace, torch.device("cpu")):
            measured = measurement.acquisition
            for samples, maps, unit in zip(measured.samples, measured.sensitivities, measurement.unit, strict=True):
                images.append(float(unit) * np.abs(_pics(Path(name), samples, maps, regularisation)))
    return np.stack(images)


def _pics(folder: Path, samples: Tensor, maps: Tensor, regularisation: float) -> Complex64[ndarray, "row column"]:
    _write(folder / "kspace", samples.numpy())
    _write(folder / "maps", maps.numpy())
    # -S keeps the units of the samples; the coil sensitivities are kdmri's, so that only the methods differ.
    arguments = ["-S", "-R", f"W:3:0:{regularisation}", "-i", "60", "kspace", "maps", "image"]
    subprocess.run(["bart", "pics", *arguments], cwd=folder, check=True, capture_output=True)
    return np.fromfile(folder / "image.cfl", np.complex64).reshape(samples.shape[1:], order="F")


def _write(file: Path, coil_data: Complex64[ndarray, "coil row column"]) -> None:
    """Write coil data in BART's format: dimensions row, column, slice, coil, the first running fastest."""
    coils, rows, columns = coil_data.shape
    file.with_suffix(".hdr").write_text(f"# Dimensions\n{rows} {columns} 1 {coils}\n")
    coil_data.transpose(1, 2, 0).ravel(order="F").tofile(file.with_suffix(".cfl"))
