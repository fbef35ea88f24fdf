"""Prediction of an answer's error and PSNR against the truth, which nobody has, with an interval.

The evidence of cross-validation is mapped to the error by a linear model in logarithms. Its coefficients and the width
of the interval are calibrated on validation volumes with the truth at hand, and stand in the manifest of the model.
"""

import math
from dataclasses import dataclass

import numpy as np

from kdmri.bundles.manifest import Calibration
from kdmri.data.evidence import Evidence
from kdmri.data.images import Images

FLOOR = 0.003
"""Relative errors below this are taken as equal: evidence of a noiseless phantom would have a logarithm of minus
infinity."""
CEILING = 1.5
"""Relative error above which nothing is told apart: an empty image has 1."""


@dataclass(frozen=True)
class Prediction:
    """Relative error and PSNR that an answer is predicted to have against the truth."""

    error: float
    """|answer - truth| over |truth|."""
    psnr: float
    """In dB, with the peak of the answer."""
    psnr_interval: tuple[float, float]
    """Interval that held the true PSNR of the share `coverage` of validation answers."""
    coverage: float
    warn_above: float
    """Error above which the answer gets a warning."""

    @property
    def warning(self) -> str | None:
        """A sentence for answers that are not to be trusted in detail."""
        if self.error <= self.warn_above:
            return None
        return (
            f"fine detail is mostly invented: predicted relative error {self.error:.2g}, "
            f"PSNR {self.psnr:.1f} dB, where an error of at most {self.warn_above:.2g} is expected"
        )


def features(evidence: Evidence, acceleration: float, coils: int) -> dict[str, float]:
    """Return the inputs of the linear model by name.

    Args:
        evidence: Of the scan's cross-validation.
        acceleration: Grid points over measured points of the whole scan.
        coils: Number of coils of the scan.
    """
    return {
        "constant": 1.0,
        "extrapolated_error": _log(evidence.extrapolated_error),
        "prediction_error": _log(evidence.prediction_error),
        "acceleration": math.log(acceleration),
        "noise": _log((evidence.noise / (evidence.total or 1)) ** 0.5),
        "several_coils": float(coils > 1),
    }


def predict(
    evidence: Evidence, images: Images, calibration: Calibration, *, acceleration: float, coils: int
) -> Prediction:
    """Predict the quality of an answer.

    Args:
        evidence: Of the scan's cross-validation.
        images: The answer, reconstructed from all samples.
        calibration: From the manifest of the model.
        acceleration: Grid points over measured points of the whole scan.
        coils: Number of coils of the scan.
    """
    inputs = features(evidence, acceleration, coils)
    logarithm = sum(weight * inputs[name] for name, weight in calibration.coefficients.items())
    error = min(max(math.exp(logarithm), FLOOR), CEILING)
    psnr = psnr_of(error, peak_ratio(images))
    half_width = 20 * math.log10(math.e) * calibration.half_width
    interval = (psnr - half_width, psnr + half_width)
    return Prediction(error, psnr, interval, calibration.coverage, calibration.warn_above)


def peak_ratio(images: Images) -> float:
    """Return the largest magnitude over the root mean square; 1 for black images."""
    pixels = images.pixels.astype(np.float64)
    peak = float(pixels.max())
    if peak <= 0:
        return 1.0
    # Divided by the peak before squaring: values beyond 1e154 would overflow even in double precision.
    return float(1 / np.sqrt(np.mean(np.square(pixels / peak))))


def psnr_of(error: float, ratio: float) -> float:
    """Return the PSNR in dB that a relative error means for an image of a given `peak_ratio`."""
    return 20 * math.log10(ratio / error)


def _log(ratio: float) -> float:
    return math.log(min(max(ratio, FLOOR), CEILING))
