"""Which acquisitions of an ISMRMRD file belong to the wanted image, and where in its Cartesian grid they go."""

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
"""What all readouts of one grid have in common."""


@dataclass(frozen=True)
class Layout:
    """Where acquisitions go: number `lines[i]` of the file to slice `slices[i]`, column `columns[i]` of the grid."""

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
        """How many readouts were measured at each place."""
        slices, _, _, columns = self.grid
        hits: ndarray = np.bincount(self.place, minlength=slices * columns)
        return hits.reshape((slices, columns))

    @cached_property
    def turns(self) -> Lines:
        """0 for the first readout of a place, 1 for the second, and so on."""
        order = np.argsort(self.place, kind="stable")
        ordered = self.place[order]
        turns: ndarray = np.empty_like(order)
        turns[order] = np.arange(order.size) - np.searchsorted(ordered, ordered)
        return turns


def flagged(heads: ndarray, flags: int) -> Bool[ndarray, " line"]:
    """Where any of `flags` is set."""
    return np.asarray((heads["flags"] & np.uint64(flags)) != 0)


def select(heads: ndarray, wanted: dict[str, int]) -> tuple[Lines, Lines]:
    """Select imaging lines and separate calibration lines of the `wanted` counters, counted from the first there is.

    Calibration that was measured once serves every contrast and repetition. Raises UnreadableKSpace where there are
    no imaging lines, InvalidRequest where a counter does not go that far.
    """
    imaging, calibration = _by_flags(heads, NOT_OF_THE_IMAGE)
    if not imaging.size:
        # Converters set these flags on every imaging line too ("wants a coil-wise factor", ISMRMRD's issue 246).
        imaging, calibration = _by_flags(heads, NOT_OF_THE_IMAGE & ~SET_ON_IMAGING_LINES)
    if not imaging.size:
        raise UnreadableKSpace(f"expected imaging lines, got none among {heads.size} acquisitions")
    encoding = heads["encoding_space_ref"]
    first = encoding[imaging[0]]
    imaging, calibration = imaging[encoding[imaging] == first], calibration[encoding[calibration] == first]
    for name, number in wanted.items():
        counter = heads["idx"][name]
        values = np.unique(counter[imaging])
        if not 0 <= number < values.size:
            raise InvalidRequest(f"expected a {name} from 0 to {values.size - 1}, those of the file, got {number}")
        imaging = imaging[counter[imaging] == values[number]]
        if (found := counter[calibration]).size:
            calibration = calibration[found == (values[number] if values[number] in found else found.min())]
    return imaging, calibration


def _by_flags(heads: ndarray, excluded: int) -> tuple[Lines, Lines]:
    """Split the lines without an excluded flag into imaging lines and separate calibration lines."""
    separate = flagged(heads, CALIBRATION) & ~flagged(heads, CALIBRATION_AND_IMAGING)
    other = flagged(heads, excluded)
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
    stay, for `lay_out` to refuse. Returns the lines and a note on those that were left out.
    """
    columns = encoding.matrix[1]
    if encoding.lines is None or encoding.lines[1] - encoding.lines[0] < columns:
        return lines, ()
    column = heads["idx"]["kspace_encode_step_1"][lines].astype(int) + encoding.first_column
    inside = (column >= 0) & (column < columns)
    if inside.all() or inside.mean() < 0.5:
        return lines, ()
    first, last, _ = encoding.lines
    return lines[inside], (
        f"{int((~inside).sum())} of {lines.size} lines beyond the matrix were left out: the header has limits "
        f"{first} to {last} and {columns} columns.",
    )


def lay_out(heads: ndarray, imaging: Lines, calibration: Lines, encoding: Encoding) -> tuple[Layout, Layout | None]:
    """The places of an image's lines in the encoded grid, and of calibration's where that was a scan of its own.

    Calibration lines that fill places without imaging lines, by the same readout, belong to the image. Those that
    measure again what imaging lines do, or by another readout, are of another scan, with perhaps another contrast.
    Raises UnsupportedInput, UnreadableKSpace where the imaging lines make no 2-D grid.
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
    slices = np.unique(number[imaging])
    place = number * columns + column

    def grid(lines: Lines) -> Layout:
        lines = np.sort(lines)
        samples, rows = _readout(heads[lines[0]], encoding.matrix[0])
        size = (slices.size, int(heads["active_channels"][lines[0]]), *encoding.matrix)
        return Layout(lines, np.searchsorted(slices, number[lines]), column[lines], size, samples, rows)

    image = grid(imaging)
    usable = np.isin(number, slices) & (column >= 0) & (column < columns) & ~flagged(heads, REVERSE | COMPRESSED)
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
    """The part of a readout that counts, and the rows that it fills. Raises UnreadableKSpace where they don't fit."""
    length, coils, centre, before, after = (int(head[name]) for name in READOUT)
    # A readout as long as the grid fits in one way only, whatever its (often unset) centre says.
    start = 0 if length == rows else rows // 2 - centre
    filled = slice(start + before, start + length - after)
    if min(rows, coils) < 1 or not 0 <= filled.start < filled.stop <= rows:
        raise UnreadableKSpace(f"expected readouts within {rows} rows, got {length} samples with centre {centre}")
    return slice(before, length - after), filled


def _check_supported(heads: ndarray) -> None:
    """Raise UnsupportedInput for what is Cartesian but not plain 2-D."""
    if flagged(heads, REVERSE).any():
        raise UnsupportedInput("reversed readouts (echo-planar, bipolar): only readouts in one direction are handled")
    if flagged(heads, COMPRESSED).any():
        raise UnsupportedInput("compressed acquisitions: expected plain float32 samples")
    partitions = np.unique(heads["idx"]["kspace_encode_step_2"]).size
    if partitions > 1:
        raise UnsupportedInput(f"3-D encoding with {partitions} second phase-encode steps: only 2-D is reconstructed")
