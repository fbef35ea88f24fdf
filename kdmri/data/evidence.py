"""Energies by which an answer is judged without the truth, from samples that were withheld from it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Evidence:
    """Energies (sums of squared magnitudes over samples and coils) of a reconstruction without withheld samples."""

    error: float
    """Energy of the error of their prediction, without the noise in them."""
    withheld: float
    """Energy of the withheld samples, without their noise."""
    missing: float
    """Estimated energy of the samples that the scanner did not measure."""
    total: float
    """Estimated energy of the complete k-space."""
    noise: float
    """Energy of the noise that the measured samples leave in the image."""

    @property
    def prediction_error(self) -> float:
        """Relative error of the prediction, as a ratio of norms: 0 if all is known, about 1 if nothing is."""
        return float((self.error / (self.withheld or 1)) ** 0.5)

    @property
    def extrapolated_error(self) -> float:
        """Relative error of the image if unmeasured samples are predicted as well as withheld ones."""
        return float(((self.prediction_error**2 * self.missing + self.noise) / (self.total or 1)) ** 0.5)
