"""Axes of a k-space array that has no header: found by its type and shape, and read slice by slice.

What is stored as (slice, coil, row, column) is read as it is. What several communities store otherwise (two real
numbers for a complex one, coils last, a leading axis of frames) is recognised only where the usual reading is
impossible or implausible, and a note says what was recognised.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import h5py
import numpy as np
from jaxtyping import Complex64
from numpy import ndarray

from kdmri.errors import InvalidRequest, UnreadableKSpace
from kdmri.formats.kspace import hdf5

Slices = Complex64[ndarray, "slice coil row column"]
EXPECTED = "expected complex k-space (slice, coil, row, column)"
MOST_COILS = 128
"""Receive coils that scanners have, at most."""
SMALLEST_IMAGE = 32
"""Rows and columns that an image has, at least, before coils are looked for in its last axis."""


class Stored(Protocol):
    """An array in a file or in memory."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes."""

    @property
    def dtype(self) -> np.dtype:
        """Type of the elements."""

    def __getitem__(self, index: Any, /) -> Any:  # h5py's and NumPy's indexing share no type
        """Read part of the array."""


@dataclass(frozen=True)
class Axes:
    """The way in which an array stores (slice, coil, row, column)."""

    shape: tuple[int, int, int, int]
    frames: int = 0
    """Length of an axis before the slices; 0 where there is none."""
    pairs: bool = False
    """Real and imaginary parts lie along an axis of 2 at the end."""
    coils_last: bool = False
    interleaved: bool = False
    """Real and imaginary parts of the coils take turns along the last axis."""
    note: str = ""


def axes_of(array: Stored) -> Axes:
    """Recognise the axes of an array. Raises UnreadableKSpace, naming type and shape, where it can be no k-space."""
    shape, dtype = array.shape, array.dtype
    # MATLAB v7.3 and some exporters have complex numbers as structures of these two fields.
    structure = dtype.names in (("real", "imag"), ("r", "i")) and all(dtype[name].kind == "f" for name in dtype.names)
    # Type and shape, and no name: what a dataset is called comes from outside.
    refused = UnreadableKSpace(f"{EXPECTED}, got {dtype} {shape}")
    if shape is None or 0 in shape:
        raise refused
    if dtype.kind == "f":
        found = _real(shape)
    elif dtype.kind == "c" or structure:
        found = _complex(shape)
    else:
        found = None
    if found is None:
        raise refused
    return found


def _complex(shape: tuple[int, ...]) -> Axes | None:
    if len(shape) == 3:
        return Axes((shape[0], 1, shape[1], shape[2]))
    if len(shape) == 5:
        frames, slices, coils, rows, columns = shape
        return Axes((slices, coils, rows, columns), frames=frames)
    if len(shape) != 4:
        return None
    slices, coils, rows, columns = shape
    # Coils before rows is fastMRI's order; more of them than there are columns is what coils at the end look like.
    if min(coils, rows) >= SMALLEST_IMAGE and columns <= MOST_COILS and 2 * columns <= min(coils, rows):
        note = (
            f"The axes {shape} were read as (slice, row, column, coil): {coils} coils of {rows} x {columns} samples "
            "are implausible."
        )
        return Axes((slices, columns, coils, rows), coils_last=True, note=note)
    return Axes((slices, coils, rows, columns))


def _real(shape: tuple[int, ...]) -> Axes | None:
    """Recognise real numbers that stand for complex ones: fastMRI's `to_tensor`, and Calgary-Campinas."""
    # The last axis decides: an image of two columns does not exist, and two coils would be four real numbers.
    if shape[-1] == 2 and len(shape) in (4, 5, 6):
        inner = _complex(shape[:-1])
        if inner is None or inner.coils_last:
            return None
        note = f"Real numbers with the axes {shape} were read as complex ones: the last axis is (real, imaginary)."
        return Axes(inner.shape, frames=inner.frames, pairs=True, note=note)
    if len(shape) == 4 and shape[-1] % 2 == 0 and shape[-1] <= min(2 * MOST_COILS, *shape[1:3]):
        coils = shape[-1] // 2
        note = (
            f"Real numbers with the axes {shape} were read as (slice, row, column, coil) with real and imaginary parts "
            f"of {coils} coils in turn."
        )
        return Axes((shape[0], coils, shape[1], shape[2]), interleaved=True, coils_last=True, note=note)
    return None


class Samples:
    """An array as (slice, coil, row, column).

    Slices that share a chunk are unpacked together, and the last chunks are kept.
    """

    def __init__(
        self, array: Stored, *, frame: int = 0, average: bool = False, max_bytes: int = hdf5.MAX_BYTES
    ) -> None:
        """Recognise the axes, and check the size.

        Args:
            array: a dataset of HDF5, or an array.
            frame: which entry of an axis before the slices, from 0.
            average: take the mean over that axis, at each place over the entries that measured it.
            max_bytes: largest size of the whole array.

        Raises:
            UnreadableKSpace: the array can be no k-space, or is damaged.
            UnsupportedInput: it is larger than the limit.
            InvalidRequest: there is no such frame.
        """
        with hdf5.intact():
            chunks = array.chunks if isinstance(array, h5py.Dataset) else None
            self._axes = axes_of(array)
        if isinstance(array, h5py.Dataset):
            hdf5.check(array, max_bytes)
        frames = self._axes.frames
        if not 0 <= frame < max(1, frames):
            raise InvalidRequest(
                f"expected a repetition from 0 to {max(1, frames) - 1}, those of the file, got {frame}"
            )
        self.shape = self._axes.shape
        self._array, self._frame, self._average = array, frame, average
        self._together: int = chunks[1 if frames else 0] if chunks else 1
        self._kept: tuple[int, Slices] | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """Describe what was recognised and left out."""
        frames, notes = self._axes.frames, [self._axes.note] if self._axes.note else []
        if frames > 1 and self._average:
            notes.append(f"The mean of {frames} averages was reconstructed.")
        elif frames > 1:
            notes.append(
                f"Number {self._frame} (from 0) of {frames} along the axis before the slices was reconstructed as a "
                "repetition, the others were left out."
            )
        return tuple(notes)

    def read(self, start: int, stop: int) -> Slices:
        """Read slices from `start` up to `stop` into an array of the caller's own."""
        if self._together == 1:
            return self._read(start, stop)
        samples = np.empty((stop - start, *self.shape[1:]), np.complex64)
        for first in range(start // self._together * self._together, stop, self._together):
            if self._kept is None or self._kept[0] != first:
                self._kept = None  # its memory before the next one's
                self._kept = first, self._read(first, first + self._together)
            low, high = max(first, start), min(first + self._together, stop)
            samples[low - start : high - start] = self._kept[1][low - first : high - first]
        return samples

    def _read(self, start: int, stop: int) -> Slices:
        if not self._axes.frames:
            return self._arrange(self._fetch(np.s_[start:stop]))
        if not self._average:
            return self._arrange(self._fetch(np.s_[self._frame, start:stop]))
        # Averages may have been measured on different lines: each place is divided by the number that measured it.
        total, hits = np.zeros((min(stop, self.shape[0]) - start, *self.shape[1:]), np.complex64), np.float32(0)
        for frame in range(self._axes.frames):
            one = self._arrange(self._fetch(np.s_[frame, start:stop]))
            total += one
            hits = hits + np.any(one != 0, axis=1, keepdims=True).astype(np.float32)
        return total / np.maximum(hits, 1)

    def _fetch(self, index: Any) -> ndarray:  # an index of either kind
        with hdf5.intact():
            return np.asarray(self._array[index])

    def _arrange(self, stored: ndarray) -> Slices:
        with np.errstate(over="ignore", invalid="ignore"):
            if stored.dtype.names:
                real, imaginary = (stored[name] for name in stored.dtype.names)
                samples = real + 1j * imaginary
            elif self._axes.pairs:
                samples = stored[..., 0] + 1j * stored[..., 1]
            elif self._axes.interleaved:
                samples = stored[..., 0::2] + 1j * stored[..., 1::2]
            else:
                samples = stored
            samples = samples.astype(np.complex64, copy=not isinstance(self._array, h5py.Dataset))
        # Contiguous, because every step that follows goes coil after coil.
        if self._axes.coils_last:
            samples = np.ascontiguousarray(np.moveaxis(samples, -1, 1))
        return samples.reshape(len(samples), *self.shape[1:])
