"""Cartesian k-space of a stack of slices, in memory (`KSpace`) or in an open file (`Scan`)."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from jaxtyping import Bool, Complex64
from numpy import ndarray

from kdmri.data.geometry import Geometry
from kdmri.data.patient import PatientAndStudy
from kdmri.physics import sampling


class Scan(Protocol):
    """Cartesian k-space of a stack of slices, in memory or in a file that is read slice by slice; see KSpace."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Slices, coils, rows and columns."""

    @property
    def mask(self) -> Bool[ndarray, "slice row column"]:
        """True where a sample was measured. The first axis is 1 if every slice has the same mask."""

    @property
    def image_shape(self) -> tuple[int, int]:
        """Rows and columns of the reconstructed image."""

    @property
    def geometry(self) -> Geometry | None:
        """Position of the reconstructed image in the patient."""

    @property
    def patient_and_study(self) -> PatientAndStudy:
        """Patient data and protocol that the file states, for DICOM answers only."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Choices and omissions made while reading, as sentences without patient data."""

    @property
    def acceleration(self) -> float:
        """Grid points over measured points, averaged over slices."""

    def select(self, slices: slice) -> "KSpace":
        """Read a range of the slices into memory, with everything else that is known of the scan."""


@dataclass(frozen=True)
class KSpace:
    """Cartesian k-space of a stack of slices; rows are the readout, columns the phase-encode axis, DC at n // 2."""

    samples: Complex64[ndarray, "slice coil row column"]
    """Measured samples, zero where nothing was measured. One coil for single-coil data."""
    mask: Bool[ndarray, "slice row column"]
    """True where a sample was measured. The first axis is 1 if every slice has the same mask."""
    image_shape: tuple[int, int]
    """Rows and columns of the reconstructed image: the centre crop of the k-space grid."""
    geometry: Geometry | None = None
    """Position of the reconstructed image (after the crop), where the file states it."""
    calibration: "KSpace | None" = None
    """The same slices and coils from a separate scan: for coil sensitivities, not for the image."""
    patient_and_study: PatientAndStudy = field(default_factory=PatientAndStudy, repr=False)
    """Patient data and protocol that the file states. Call `without_patient` before a scan leaves its request."""
    notes: tuple[str, ...] = ()
    """Choices and omissions made while reading, as sentences without patient data."""
    withheld: "KSpace | None" = None
    """Samples of the same slices and coils that reconstruction must not see, and is judged by; see
    quality.cross_validation."""

    def select(self, slices: slice) -> "KSpace":
        """Return a range of the slices; arrays are views."""
        return replace(
            self,
            samples=self.samples[slices],
            # A single mask stands for all slices, also for those of the range.
            mask=self.mask if len(self.mask) == 1 else self.mask[slices],
            geometry=self.geometry and self.geometry.select(slices),
            calibration=self.calibration and self.calibration.select(slices),
            withheld=self.withheld and self.withheld.select(slices),
        )

    def without_patient(self) -> "KSpace":
        """Return the same scan without patient data: for other processes, caches and logs."""
        # The calibration scan is of the same patient.
        calibration = self.calibration and self.calibration.without_patient()
        return replace(self, calibration=calibration, patient_and_study=PatientAndStudy())

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Slices, coils, rows and columns."""
        slices, coils, rows, columns = self.samples.shape
        return slices, coils, rows, columns

    @property
    def acceleration(self) -> float:
        """Grid points over measured points, averaged over slices."""
        return sampling.acceleration(self.mask)


def concatenate(parts: Sequence[KSpace]) -> KSpace:
    """Stack the slices of scans of one shape, each with its own mask.

    Samples are withheld from the result if they are from all parts, or from some. The result has neither geometry nor
    patient data nor calibration: the parts may be of different patients.
    """
    withheld = None
    if any(part.withheld for part in parts):
        withheld = concatenate([part.withheld or _without_samples(part) for part in parts])
    samples = np.concatenate([part.samples for part in parts])
    return KSpace(
        samples, np.concatenate([_full_mask(part) for part in parts]), parts[0].image_shape, withheld=withheld
    )


def stack(slices: Sequence[KSpace]) -> KSpace:
    """Stack slices of one scan, without its geometry, with its calibration if it has one."""
    calibrations = [part.calibration for part in slices if part.calibration]
    return replace(concatenate(slices), calibration=concatenate(calibrations) if calibrations else None)


def _full_mask(part: KSpace) -> Bool[ndarray, "slice row column"]:
    # A part may have one mask for all of its slices, which the next part does not share.
    return np.broadcast_to(part.mask, (len(part.samples), *part.mask.shape[1:]))


def _without_samples(part: KSpace) -> KSpace:
    return replace(part, samples=np.zeros_like(part.samples), mask=np.zeros_like(part.mask))
