"""Reconstructed or super-resolved images, as they pass between formats, runtime and service."""

from dataclasses import dataclass

from jaxtyping import Float32
from numpy import ndarray

from kdmri.data.evidence import Evidence
from kdmri.data.geometry import Geometry


@dataclass(frozen=True)
class Images:
    """A stack of magnitude images of one size."""

    pixels: Float32[ndarray, "slice row column"]
    """Magnitudes in the units of the input."""
    geometry: Geometry | None = None
    """Position in the patient, where the input states it."""
    residual: float | None = None
    """|A x - y| / |y| of a reconstruction: the share of the measurement that the images do not explain."""
    evidence: Evidence | None = None
    """How well samples were predicted that were withheld from a reconstruction, where some were."""
