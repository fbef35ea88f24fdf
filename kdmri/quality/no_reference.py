"""Quality that needs no truth: how well an answer fits what was measured, and how far the input is from training.

Figures are relative to bright tissue (`scaling.intensity_scale`), so that they don't depend on the input's units.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from kdmri.bundles.manifest import Manifest
from kdmri.data.images import Images
from kdmri.data.kspace import Scan
from kdmri.physics.fourier import fft2c
from kdmri.physics.noise import noise_deviation
from kdmri.physics.resampling import downsample
from kdmri.physics.scaling import intensity_scale

FAR = 8.0
"""Octaves: what lies further from the training data than this is as foreign as can be."""
TOLERANCE = 0.25
"""Octaves beyond a trained range that are not warned of: acceleration 10.7 where 9 was the largest seen."""

RESIDUAL = 0.25
"""Twice the largest of the real scans at hand (16 coils, fully sampled: 0.12). A manifest may say another."""


@dataclass(frozen=True)
class Quality:
    """What can be said of an answer from the input alone."""

    residual: float
    """|y - A x| over |y|, x the answer, y the measurement: 0 where measured samples are replaced."""
    noise: float
    """Standard deviation of the noise in a measured sample (its real part, and its imaginary part)."""
    intensity: float
    """Mean magnitude of a slice."""
    contrast: float
    """Standard deviation of the magnitude within a slice, over its mean."""
    acceleration: float | None = None
    columns: int | None = None
    """Size of the phase-encode axis; None with `acceleration` where images, not k-space, were given."""


def of_reconstruction(images: Images, kspace: Scan) -> Quality:
    """The quality of images reconstructed from k-space."""
    slices, *_, columns = kspace.shape
    middle = slices // 2
    (samples,) = kspace.select(slice(middle, middle + 1)).samples
    magnitude = torch.from_numpy(images.pixels)
    scale = intensity_scale(magnitude)
    deviation = noise_deviation(torch.from_numpy(samples)) / float(scale[middle])
    return Quality(images.residual or 0.0, deviation, *statistics(magnitude / scale), kspace.acceleration, columns)


def of_super_resolution(images: Images, source: Images, scale: int) -> Quality:
    """The quality of images on a grid `scale` times finer than their source's, whose k-space is the measurement."""
    coarse = torch.from_numpy(source.pixels)
    departure = downsample(torch.from_numpy(images.pixels), scale) - coarse
    residual = float(torch.linalg.vector_norm(departure)) / (float(torch.linalg.vector_norm(coarse)) or 1)
    middle = len(coarse) // 2
    one = coarse[middle : middle + 1]
    deviation = noise_deviation(fft2c(one.to(torch.complex64))) / float(intensity_scale(one))
    magnitude = torch.from_numpy(images.pixels).abs()
    return Quality(residual, deviation, *statistics(magnitude / intensity_scale(magnitude)))


def statistics(relative: Float[Tensor, "slice row column"]) -> tuple[float, float]:
    """Intensity and contrast of scaled slices: means over those that hold anything, 0 where none does."""
    means = relative.mean(dim=(-2, -1))
    full = means > 0
    if not full.any():
        return 0.0, 0.0
    deviations = relative.std(dim=(-2, -1))
    return float(means[full].mean()), float((deviations[full] / means[full]).mean())


def ranges(manifest: Manifest) -> dict[str, tuple[float, float]]:
    """What a model was trained on, by the names of Quality's fields, as far as its manifest says: what is usual."""
    trained = manifest.trained_on
    stated = {
        "acceleration": trained.get("accelerations"),
        "columns": trained.get("columns"),
        "noise": (0.0, trained["noise"]) if "noise" in trained else None,
        "intensity": trained.get("intensity"),
        "contrast": trained.get("contrast"),
    }
    return {name: (float(min(span)), float(max(span))) for name, span in stated.items() if span is not None}


def distances(quality: Quality, manifest: Manifest) -> dict[str, float]:
    """Octaves (factors of two) that each figure lies outside what a model was trained on: 0 inside, FAR at most."""
    found = vars(quality)
    return {
        name: _octaves(found[name], low, high)
        for name, (low, high) in ranges(manifest).items()
        if found[name] is not None
    }


def _octaves(value: float, low: float, high: float) -> float:
    if low <= value <= high:
        return 0.0
    nearest = high if value > high else low
    return min(abs(math.log2(value / nearest)), FAR) if value > 0 and nearest > 0 else FAR


def warnings(quality: Quality, manifest: Manifest) -> list[str]:
    """A sentence for everything by which an answer may be worse than the model card's scores suggest."""
    said, usual = [], ranges(manifest)
    if quality.acceleration == 1:
        said.append("k-space is fully sampled: the answer is the plain image")
    for name, octaves in distances(quality, manifest).items():
        value, (low, high) = vars(quality)[name], usual[name]
        # Less missing than in training is no reason to worry.
        easier = name == "acceleration" and value < low
        if octaves > TOLERANCE and not easier:
            said.append(f"{name} {value:.3g} is outside the trained range {low:g} to {high:g}")
    limit = float(manifest.trained_on.get("residual", RESIDUAL))
    if quality.residual > limit:
        said.append(f"{quality.residual:.0%} of what was measured is not in the answer, usual is at most {limit:.0%}")
    return said
