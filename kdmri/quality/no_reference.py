"""Quality without a reference image: how well an answer fits its input, and how far that is from the training data.

Figures are relative to bright tissue (`scaling.intensity_scale`), so that they do not depend on the input's units.
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
from kdmri.physics.scaling import divide, intensity_scale, power_of_two
from kdmri.quality.prediction import Prediction

FAR = 8.0
"""Largest distance from the training data that is told apart, in octaves."""
TOLERANCE = 0.25
"""Octaves beyond a trained range without a warning: acceleration 10.7 if 9 was the largest in training."""

RESIDUAL = 0.25
"""Default limit of the residual: twice the largest of the real scans at hand (16 coils, fully sampled: 0.12). A
manifest may state another."""


@dataclass(frozen=True)
class Quality:
    """Figures of an answer that are known from its input alone."""

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
    prediction: Prediction | None = None
    """Predicted error against the truth, where samples were withheld to find out."""


def of_reconstruction(images: Images, kspace: Scan) -> Quality:
    """Assess images reconstructed from k-space.

    Args:
        images: The answer, in the units of the input.
        kspace: The measurement.

    Returns:
        Figures without units. Noise is estimated from the middle slice alone: reading every slice again takes time.
    """
    slices, *_, columns = kspace.shape
    middle = slices // 2
    (samples,) = kspace.select(slice(middle, middle + 1)).samples
    magnitude = torch.from_numpy(images.pixels)
    scale = intensity_scale(magnitude)
    deviation = noise_deviation(torch.from_numpy(samples)) / float(scale[middle])
    return Quality(images.residual or 0.0, deviation, *statistics(magnitude / scale), kspace.acceleration, columns)


def of_super_resolution(images: Images, source: Images, scale: int) -> Quality:
    """Assess images on a finer grid, for which the k-space of the coarse images is the measurement.

    Args:
        images: The answer, in the units of the input.
        source: The coarse images.
        scale: How many times finer the grid of the answer is.

    Returns:
        Figures without units; acceleration and columns are None.
    """
    pixels = torch.from_numpy(source.pixels)
    # One unit for both stacks, removed before anything is squared: values beyond 1e19 would overflow.
    unit = power_of_two(pixels[None])
    coarse, finer = divide(pixels[None], unit)[0], divide(torch.from_numpy(images.pixels)[None], unit)[0]
    # The coarse image is what the finer one has to show after the same scanner measured it: the residual is the rest.
    departure = downsample(finer, scale) - coarse
    residual = float(torch.linalg.vector_norm(departure)) / (float(torch.linalg.vector_norm(coarse)) or 1)
    # The middle slice has the most tissue and the end slices often none: the noise of one stands for all.
    middle = len(coarse) // 2
    one = coarse[middle : middle + 1]
    deviation = noise_deviation(fft2c(one.to(torch.complex64))) / float(intensity_scale(one))
    magnitude = finer.abs()
    return Quality(residual, deviation, *statistics(magnitude / intensity_scale(magnitude)))


def statistics(relative: Float[Tensor, "slice row column"]) -> tuple[float, float]:
    """Compute intensity and contrast of scaled slices: means over slices that are not empty, 0 if all are."""
    means = relative.mean(dim=(-2, -1))
    # Empty slices at the ends of a volume have no contrast, and would pull the means towards zero.
    full = means > 0
    if not full.any():
        return 0.0, 0.0
    deviations = relative.std(dim=(-2, -1))
    return float(means[full].mean()), float((deviations[full] / means[full]).mean())


def ranges(manifest: Manifest) -> dict[str, tuple[float, float]]:
    """Return the ranges a model was trained on, by names of Quality's fields, as far as its manifest states them."""
    # Manifests state lists of values or [smallest, largest]; noise only its largest, because training begins at none.
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
    """Compute by how many octaves (factors of two) each figure lies outside the trained range: from 0 to FAR."""
    figures = vars(quality)
    return {
        name: _octaves(figures[name], low, high)
        for name, (low, high) in ranges(manifest).items()
        if figures[name] is not None
    }


def _octaves(value: float, low: float, high: float) -> float:
    if low <= value <= high:
        return 0.0
    nearest = high if value > high else low
    # A figure of zero is infinitely many octaves from any range; FAR keeps histograms and means finite.
    return min(abs(math.log2(value / nearest)), FAR) if value > 0 and nearest > 0 else FAR


def warnings(quality: Quality, manifest: Manifest) -> list[str]:
    """Return a sentence for each reason why an answer may be worse than the scores of the model's card."""
    texts, usual = [], ranges(manifest)
    if quality.acceleration == 1:
        texts.append("k-space is fully sampled: the answer is the plain image")
    for name, octaves in distances(quality, manifest).items():
        value, (low, high) = vars(quality)[name], usual[name]
        # A lower acceleration than in training is easier: it needs no warning.
        easier = name == "acceleration" and value < low
        if octaves > TOLERANCE and not easier:
            texts.append(f"{name} {value:.3g} is outside the trained range {low:g} to {high:g}")
    if quality.prediction and (sentence := quality.prediction.warning):
        texts.append(sentence)
    limit = float(manifest.trained_on.get("residual", RESIDUAL))
    if quality.residual > limit:
        texts.append(f"{quality.residual:.0%} of what was measured is not in the answer, usual is at most {limit:.0%}")
    return texts
