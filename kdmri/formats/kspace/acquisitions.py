"""Choice of the acquisitions of an ISMRMRD file that make an image, and their places in its Cartesian grid."""

from dataclasses import dataclass
from functools import cached_property

import ismrmrd
import numpy as np
from jaxtyping import Bool, Int
from numpy import ndarray

from kdmri.errors import InvalidRequest, UnreadableKSpace, UnsupportedInput
from kdmri.formats.kspace.header import Encoding

Lines = Int[ndarray, " line"]


def _flags(*names: str) -> int:
    # ismrmrd numbers its flags from 1; in the head each is a bit, counted from 0.
    return sum(1 << (getattr(ismrmrd, f"ACQ_{name}") - 1) for name in names)


NOISE = _flags("IS_NOISE_MEASUREMENT")
CALIBRATION = _flags("IS_PARALLEL_CALIBRATION")
CALIBRATION_AND_IMAGING = _flags("IS_PARALLEL_CALIBRATION_AND_IMAGING")
REVERSE = _flags("IS_REVERSE")
COMPRESSED = _flags("COMPRESSION1", "COMPRESSION2", "COMPRESSION3", "COMPRESSION4")
NOT_OF_THE_IMAGE = NOISE | _flags(
    "IS_NAVIGATION_DATA",
    "IS_PHASECORR_DATA",
    "IS_HPFEEDBACK_DATA",
    "IS_DUMMYSCAN_DATA",
    "IS_RTFEEDBACK_DATA",
    "IS_SURFACECOILCORRECTIONSCAN_DATA",
    "IS_PHASE_STABILIZATION_REFERENCE",
    "IS_PHASE_STABILIZATION",
)
SET_ON_IMAGING_LINES = _flags("IS_SURFACECOILCORRECTIONSCAN_DATA", "IS_PHASE_STABILIZATION")
"""Flags that converters also set on imaging lines: they exclude a line only where imaging lines remain."""
READOUT = ["number_of_samples", "active_channels", "center_sample", "discard_pre", "discard_post"]
"""Fields of the head that are equal in all readouts of one grid."""


@dataclass(frozen=True)
class Layout:
    """Places of acquisitions: line `lines[i]` of a file goes to slice `slices[i]`, column `columns[i]` of the grid."""

    lines: Lines
    slices: Lines
    columns: Lines
    grid: tuple[int, int, int, int]
    """Slices, coils, rows and columns, with readout oversampling."""
    samples: slice
    """The part of a readout that counts."""
    rows: slice
    """The rows that it fills: fewer than the grid's where the echo is asymmetric."""

    @cached_property
    def place(self) -> Lines:
        """Slice and column as one number: lines of one place are averages."""
        return self.slices * self.grid[3] + self.columns

    @cached_property
    def hits(self) -> Int[ndarray, "slice column"]:
        """Number of readouts measured at each place."""
        slices, _, _, columns = self.grid
        hits: ndarray = np.bincount(self.place, minlength=slices * columns)
        return hits.reshape((slices, columns))

    @cached_property
    def turns(self) -> Lines:
        """0 for the first readout of a place, 1 for the second, and so on."""
        # Stable, so that the averages of a place keep the order of their measurement.
        order = np.argsort(self.place, kind="stable")
        ordered = self.place[order]
        turns: ndarray = np.empty_like(order)
        turns[order] = np.arange(order.size) - np.searchsorted(ordered, ordered)
        return turns


def has_flags(heads: ndarray, flags: int) -> Bool[ndarray, " line"]:
    """Return True for the lines on which any of `flags` is set."""
    return np.asarray((heads["flags"] & np.uint64(flags)) != 0)


def select(heads: ndarray, wanted: dict[str, int]) -> tuple[Lines, Lines]:
    """Select imaging lines and separate calibration lines of the `wanted` counters, counted from the first there is.

    Calibration that was measured once serves every contrast and repetition.

    Args:
        heads: heads of all acquisitions.
        wanted: number of the value to select, from 0, by the name of the counter.

    Returns:
        Numbers of the imaging lines and of the separate calibration lines in the file.

    Raises:
        UnreadableKSpace: there are no imaging lines.
        InvalidRequest: a counter does not take that many values.
    """
    imaging, calibration = _by_flags(heads, NOT_OF_THE_IMAGE)
    if not imaging.size:
        # Converters set these flags on every imaging line too ("wants a coil-wise factor", ISMRMRD's issue 246).
        imaging, calibration = _by_flags(heads, NOT_OF_THE_IMAGE & ~SET_ON_IMAGING_LINES)
    if not imaging.size:
        raise UnreadableKSpace(f"expected imaging lines, got none among {heads.size} acquisitions")
    # Further encodings are other scans of the same file, such as a navigator or a calibration on a grid of its own.
    encoding = heads["encoding_space_ref"]
    first = encoding[imaging[0]]
    imaging, calibration = imaging[encoding[imaging] == first], calibration[encoding[calibration] == first]
    for name, number in wanted.items():
        counter = heads["idx"][name]
        # Numbers count the values that occur: a file of one repetition may have cut it out of many.
        values = np.unique(counter[imaging])
        if not 0 <= number < values.size:
            raise InvalidRequest(f"expected a {name} from 0 to {values.size - 1}, those of the file, got {number}")
        imaging = imaging[counter[imaging] == values[number]]
        if (found := counter[calibration]).size:
            calibration = calibration[found == (values[number] if values[number] in found else found.min())]
    return imaging, calibration


def _by_flags(heads: ndarray, excluded: int) -> tuple[Lines, Lines]:
    """Split the lines without an excluded flag into imaging lines and separate calibration lines."""
    separate = has_flags(heads, CALIBRATION) & ~has_flags(heads, CALIBRATION_AND_IMAGING)
    other = has_flags(heads, excluded)
    return np.flatnonzero(~other & ~separate), np.flatnonzero(~other & separate)


def choice_notes(heads: ndarray, wanted: dict[str, int]) -> tuple[str, ...]:
    """Describe what `select` leaves out of the file, by count, for every counter that takes several values."""
    lines, _ = select(heads, {})
    notes = []
    for name, number in wanted.items():
        count = np.unique(heads["idx"][name][lines]).size
        if count > 1:
            notes.append(f"Number {number} (from 0) of {count} {name}s was reconstructed, the others were left out.")
    return tuple(notes)


def lines_within(heads: ndarray, lines: Lines, encoding: Encoding) -> tuple[Lines, tuple[str, ...]]:
    """Leave out lines beyond the encoded matrix where the header's limits are wider than the matrix.

    Shots of a fixed length measure more lines than the protocol wants. Lines that are elsewhere for another reason
    stay, for `lay_out` to refuse.

    Args:
        heads: heads of all acquisitions.
        lines: numbers of the lines to check.
        encoding: the encoding of these lines.

    Returns:
        The lines that stay, and a note on those that were left out.
    """
    columns = encoding.matrix[1]
    if encoding.lines is None or encoding.lines[1] - encoding.lines[0] < columns:
        return lines, ()
    column = heads["idx"]["kspace_encode_step_1"][lines].astype(int) + encoding.first_column
    inside = (column >= 0) & (column < columns)
    # If most lines lie outside, the matrix or the centre is wrong, and what lies inside is no image.
    if inside.all() or inside.mean() < 0.5:
        return lines, ()
    first, last, _ = encoding.lines
    return lines[inside], (
        f"{int((~inside).sum())} of {lines.size} lines beyond the matrix were left out: the header has limits "
        f"{first} to {last} and {columns} columns.",
    )


def lay_out(heads: ndarray, imaging: Lines, calibration: Lines, encoding: Encoding) -> tuple[Layout, Layout | None]:
    """Find the places of an image's lines in the encoded grid, and those of calibration if it was a scan of its own.

    Calibration lines that fill places without imaging lines, by the same readout, belong to the image. Those that
    measure again what imaging lines do, or by another readout, are of another scan, with perhaps another contrast.

    Args:
        heads: heads of all acquisitions.
        imaging: numbers of the imaging lines.
        calibration: numbers of the separate calibration lines.
        encoding: the encoding of the imaging lines.

    Returns:
        Layout of the image, and of a calibration scan or None.

    Raises:
        UnsupportedInput: the lines are reversed, compressed, of a 3-D scan or of several kinds of readout.
        UnreadableKSpace: a line or a readout lies outside the grid.
    """
    _check_supported(heads[imaging])
    kinds = np.unique(heads[READOUT][imaging])
    if kinds.size > 1:
        raise UnsupportedInput(f"expected readouts of one length, centre and number of coils, got {kinds.size} kinds")
    number = heads["idx"]["slice"].astype(int)
    column = heads["idx"]["kspace_encode_step_1"].astype(int) + encoding.first_column
    first, last = column[imaging].min(), column[imaging].max()
    columns = encoding.matrix[1]
    if first < 0 or last >= columns:
        limits = f" (encodingLimits {encoding.lines[0]} to {encoding.lines[1]})" if encoding.lines else ""
        raise UnreadableKSpace(
            f"expected phase-encode lines within columns 0 to {columns - 1}, got {first} to {last}{limits}"
        )
    # Slice numbers may have gaps, if a file holds a part of a scan: the grid has none.
    slices = np.unique(number[imaging])
    place = number * columns + column

    def grid(lines: Lines) -> Layout:
        lines = np.sort(lines)
        samples, rows = _readout(heads[lines[0]], encoding.matrix[0])
        size = (slices.size, int(heads["active_channels"][lines[0]]), *encoding.matrix)
        return Layout(lines, np.searchsorted(slices, number[lines]), column[lines], size, samples, rows)

    image = grid(imaging)
    usable = np.isin(number, slices) & (column >= 0) & (column < columns) & ~has_flags(heads, REVERSE | COMPRESSED)
    usable &= heads["active_channels"] == image.grid[1]
    calibration = calibration[usable[calibration]]
    if not calibration.size:
        return image, None
    alike = heads[READOUT][calibration] == kinds[0]
    if alike.all() and not np.isin(place[calibration], place[imaging]).any():
        return grid(np.concatenate([imaging, calibration])), None
    calibration = calibration[heads[READOUT][calibration] == heads[READOUT][calibration[0]]]
    everywhere = np.unique(number[calibration]).size == slices.size
    return image, grid(calibration) if everywhere else None


def _readout(head: ndarray, rows: int) -> tuple[slice, slice]:
    """Return the part of a readout that counts, and the rows that it fills.

    Raises:
        UnreadableKSpace: the readout does not fit the rows.
    """
    length, coils, centre, before, after = (int(head[name]) for name in READOUT)
    # A readout as long as the grid fits in one way only, whatever its (often unset) centre says.
    start = 0 if length == rows else rows // 2 - centre
    filled = slice(start + before, start + length - after)
    if min(rows, coils) < 1 or not 0 <= filled.start < filled.stop <= rows:
        raise UnreadableKSpace(f"expected readouts within {rows} rows, got {length} samples with centre {centre}")
    return slice(before, length - after), filled


def _check_supported(heads: ndarray) -> None:
    """Raise UnsupportedInput for what is Cartesian but not plain 2-D."""
    if has_flags(heads, REVERSE).any():
        raise UnsupportedInput("reversed readouts (echo-planar, bipolar): only readouts in one direction are handled")
    if has_flags(heads, COMPRESSED).any():
        raise UnsupportedInput("compressed acquisitions: expected plain float32 samples")
    partitions = np.unique(heads["idx"]["kspace_encode_step_2"]).size
    if partitions > 1:
        raise UnsupportedInput(f"3-D encoding with {partitions} second phase-encode steps: only 2-D is reconstructed")
