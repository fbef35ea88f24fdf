"""The domain records that pass between formats, runtime and service. Arrays are NumPy; units are in the docstrings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from jaxtyping import Bool, Complex64, Float32, Float64
from numpy import ndarray

from kdmri.physics import sampling


@dataclass(frozen=True)
class Geometry:
    """Where slices lie, in DICOM's patient coordinates (LPS, millimetres)."""

    positions: Float64[ndarray, "slice 3"]
    """Centre of the first (top left) pixel of each slice: ImagePositionPatient."""
    orientation: Float64[ndarray, "2 3"]
    """Unit vectors along a row (increasing column) and along a column (increasing row): ImageOrientationPatient."""
    spacing: tuple[float, float]
    """Distance between the centres of adjacent rows, and of adjacent columns: PixelSpacing."""
    thickness: float
    """Slice thickness."""
    placed: bool = True
    """False where only the sizes are known: positions and orientation are then made up, axial about the origin."""

    @classmethod
    def unplaced(
        cls, slices: int, shape: tuple[int, int], spacing: tuple[float, float], thickness: float
    ) -> "Geometry":
        """Axial slices of `shape` one above the other, their middle at the origin: for files that tell sizes only."""
        rows, columns = ((length - 1) / 2 * step for length, step in zip(shape, spacing, strict=True))
        heights = (np.arange(slices) - (slices - 1) / 2) * thickness
        positions = np.stack([np.full(slices, -columns), np.full(slices, -rows), heights], axis=1)
        return cls(positions, np.eye(3)[:2], spacing, thickness, placed=False)

    def part(self, slices: slice) -> "Geometry":
        """The geometry of some of the slices."""
        return replace(self, positions=self.positions[slices])

    def cropped(self, shape: tuple[int, int], to: tuple[int, int]) -> "Geometry":
        """The geometry after the centre crop of `shape` to `to` (rows, columns); see `fourier.centre_crop`."""
        skipped = [old // 2 - new // 2 for old, new in zip(shape, to, strict=True)]
        along_row, along_column = self.orientation
        shift = along_column * skipped[0] * self.spacing[0] + along_row * skipped[1] * self.spacing[1]
        return replace(self, positions=self.positions + shift)

    def refined(self, scale: int) -> "Geometry":
        """The geometry of the same field of view on a grid `scale` times finer: pixel centres move by (new - old)/2."""
        row_spacing, column_spacing = self.spacing
        along_row, along_column = self.orientation
        move = (1 / scale - 1) / 2
        shift = along_row * column_spacing * move + along_column * row_spacing * move
        finer = (row_spacing / scale, column_spacing / scale)
        return replace(self, positions=self.positions + shift, spacing=finer)


class Scan(Protocol):
    """Cartesian k-space of a stack of slices, in memory or in a file that is read slice by slice; see KSpace."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Slices, coils, rows and columns."""

    @property
    def mask(self) -> Bool[ndarray, "slice row column"]:
        """True where a sample was measured. The first axis may be 1: the same for every slice."""

    @property
    def image_shape(self) -> tuple[int, int]:
        """Rows and columns of the answer."""

    @property
    def geometry(self) -> Geometry | None:
        """Of the answer."""

    @property
    def described(self) -> Mapping[str, str]:
        """What the file says of patient, study and measurement: DICOM values by keyword. For DICOM answers alone."""

    @property
    def acceleration(self) -> float:
        """Grid points over measured points, averaged over slices."""

    def part(self, slices: slice) -> "KSpace":
        """Some of the slices, in memory."""


@dataclass(frozen=True)
class KSpace:
    """Cartesian k-space of a stack of slices; rows are the readout, columns the phase-encode axis, DC at n // 2."""

    samples: Complex64[ndarray, "slice coil row column"]
    """Measured samples, zero where nothing was measured. One coil for single-coil data."""
    mask: Bool[ndarray, "slice row column"]
    """True where a sample was measured. The first axis may be 1: the same for every slice."""
    image_shape: tuple[int, int]
    """Rows and columns of the answer: the centre crop of the reconstructed grid."""
    geometry: Geometry | None = None
    """Of the answer (after the crop), where the file tells it."""
    calibration: "KSpace | None" = None
    """The same slices by the same coils, from a scan of its own: for coil sensitivities, not for the image."""
    described: Mapping[str, str] = field(default_factory=dict, repr=False)
    """See Scan: who it is about must not get into logs, nor into `part`, which other processes may be sent."""

    def part(self, slices: slice) -> "KSpace":
        """Some of the slices, without what is `described`."""
        return KSpace(
            self.samples[slices],
            self.mask if len(self.mask) == 1 else self.mask[slices],
            self.image_shape,
            self.geometry and self.geometry.part(slices),
            self.calibration and self.calibration.part(slices),
        )

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Slices, coils, rows and columns."""
        slices, coils, rows, columns = self.samples.shape
        return slices, coils, rows, columns

    @property
    def acceleration(self) -> float:
        """Grid points over measured points, averaged over slices."""
        return sampling.acceleration(self.mask)


def joined(parts: Sequence[KSpace]) -> KSpace:
    """Slices of scans of one shape as one stack, each with its own mask: the inverse of `part` for both arrays."""
    masks = [np.broadcast_to(part.mask, (len(part.samples), *part.mask.shape[1:])) for part in parts]
    return KSpace(np.concatenate([part.samples for part in parts]), np.concatenate(masks), parts[0].image_shape)


@dataclass(frozen=True)
class Images:
    """A stack of magnitude images of one size."""

    pixels: Float32[ndarray, "slice row column"]
    geometry: Geometry | None = None
    residual: float | None = None
    """Of a reconstruction: |A x - y| / |y|, the share of what was measured that the images do not explain."""
