"""Position, orientation and size of slices in the patient."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64
from numpy import ndarray


@dataclass(frozen=True)
class Geometry:
    """Position of a stack of slices in DICOM's patient coordinates (LPS, millimetres)."""

    positions: Float64[ndarray, "slice 3"]
    """Centre of the first (top left) pixel of each slice: ImagePositionPatient."""
    orientation: Float64[ndarray, "2 3"]
    """Unit vectors along a row (increasing column) and along a column (increasing row): ImageOrientationPatient."""
    spacing: tuple[float, float]
    """Distance between the centres of adjacent rows, and of adjacent columns: PixelSpacing."""
    thickness: float
    """Slice thickness."""
    placed: bool = True
    """False if the source states sizes only: positions and orientation are then an axial default about the origin."""

    @classmethod
    def from_sizes(
        cls, slices: int, shape: tuple[int, int], spacing: tuple[float, float], thickness: float
    ) -> "Geometry":
        """Build a default geometry for a file that states sizes only: axial slices, stacked about the origin.

        Args:
            slices: number of slices; their centres are `thickness` apart.
            shape: rows and columns of a slice.
            spacing: distance between adjacent rows and between adjacent columns, in millimetres.
            thickness: slice thickness in millimetres.
        """
        # Half of the extent between the first and the last pixel's centre, in millimetres.
        rows, columns = ((length - 1) / 2 * step for length, step in zip(shape, spacing, strict=True))
        heights = (np.arange(slices) - (slices - 1) / 2) * thickness
        positions = np.stack([np.full(slices, -columns), np.full(slices, -rows), heights], axis=1)
        # In LPS the first axis points to the patient's left and the second to the back: increasing columns go to the
        # left and increasing rows to the back, as axial images are shown.
        return cls(positions, np.eye(3)[:2], spacing, thickness, placed=False)

    def select(self, slices: slice) -> "Geometry":
        """Return the geometry of a range of the slices."""
        return replace(self, positions=self.positions[slices])

    def crop(self, shape: tuple[int, int], to: tuple[int, int]) -> "Geometry":
        """Return the geometry after the centre crop of `shape` to `to` (rows, columns); see `fourier.centre_crop`."""
        # The centre of either grid is at n // 2. For sizes of unlike parity, half the difference would be off by a
        # pixel.
        skipped = [old // 2 - new // 2 for old, new in zip(shape, to, strict=True)]
        along_row, along_column = self.orientation
        shift = along_column * skipped[0] * self.spacing[0] + along_row * skipped[1] * self.spacing[1]
        return replace(self, positions=self.positions + shift)

    def refine(self, scale: int) -> "Geometry":
        """Return the geometry of the same field of view on a grid `scale` times finer.

        The corners of the field of view stay in place, so pixel centres move by (new - old spacing) / 2.
        """
        row_spacing, column_spacing = self.spacing
        along_row, along_column = self.orientation
        # Negative: the first centre of the finer grid is nearer to the corner.
        move = (1 / scale - 1) / 2
        shift = along_row * column_spacing * move + along_column * row_spacing * move
        finer = (row_spacing / scale, column_spacing / scale)
        return replace(self, positions=self.positions + shift, spacing=finer)
