"""The domain records that pass between formats, runtime and service. Arrays are NumPy; units are in the docstrings."""

from dataclasses import dataclass

from jaxtyping import Bool, Complex64, Float32, Float64
from numpy import ndarray


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

    def cropped(self, shape: tuple[int, int], to: tuple[int, int]) -> "Geometry":
        """The geometry after the centre crop of `shape` to `to` (rows, columns); see `fourier.centre_crop`."""
        skipped = [old // 2 - new // 2 for old, new in zip(shape, to, strict=True)]
        along_row, along_column = self.orientation
        shift = along_column * skipped[0] * self.spacing[0] + along_row * skipped[1] * self.spacing[1]
        return Geometry(self.positions + shift, self.orientation, self.spacing, self.thickness)

    def refined(self, scale: int) -> "Geometry":
        """The geometry of the same field of view on a grid `scale` times finer: pixel centres move by (new - old)/2."""
        row_spacing, column_spacing = self.spacing
        along_row, along_column = self.orientation
        move = (1 / scale - 1) / 2
        shift = along_row * column_spacing * move + along_column * row_spacing * move
        finer = (row_spacing / scale, column_spacing / scale)
        return Geometry(self.positions + shift, self.orientation, finer, self.thickness)


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

    @property
    def acceleration(self) -> float:
        """Grid points over measured points, averaged over slices."""
        return float(self.mask.size / max(int(self.mask.sum()), 1))


@dataclass(frozen=True)
class Images:
    """A stack of magnitude images of one size."""

    pixels: Float32[ndarray, "slice row column"]
    geometry: Geometry | None = None
