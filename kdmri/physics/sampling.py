"""Cartesian sampling: masks along the phase-encode axis, and masks read off k-space."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Complex
from numpy import ndarray
from numpy.random import Generator

Mask = Bool[ndarray, " column"]


def _centre(columns: int, lines: int) -> slice:
    start = columns // 2 - lines // 2
    return slice(start, start + lines)


def _fill(centre: Mask, probability: ndarray, wanted: int, rng: Generator) -> Mask:
    """Add random lines to a sampled centre.

    Args:
        centre: True for the central lines.
        probability: relative probability of each line, at least 0; those of central lines are ignored.
        wanted: number of lines in all; fewer result if fewer have a probability above 0.
        rng: source of the choice, without replacement.
    """
    mask = centre.copy()
    probability = np.where(mask, 0, probability)
    missing = min(wanted - int(mask.sum()), int((probability > 0).sum()))
    if missing > 0:
        mask[rng.choice(mask.size, missing, replace=False, p=probability / probability.sum())] = True
    return mask


def random_mask(columns: int, acceleration: float, centre_lines: int, rng: Generator) -> Mask:
    """Sample the centre fully and the other lines uniformly at random: columns / acceleration lines in all.

    Args:
        columns: number of lines of the grid.
        acceleration: columns over sampled lines.
        centre_lines: number of fully sampled lines around n // 2.
        rng: source of the choice.
    """
    centre = np.zeros(columns, dtype=bool)
    centre[_centre(columns, centre_lines)] = True
    return _fill(centre, np.ones(columns), round(columns / acceleration), rng)


def equispaced_mask(columns: int, acceleration: float, centre_lines: int, rng: Generator) -> Mask:
    """Sample the centre fully and equally spaced lines with a random offset: columns / acceleration lines in all.

    The spacing makes up for the centre lines, as in fastMRI's EquispacedMaskFractionFunc.

    Args:
        columns: number of lines of the grid.
        acceleration: columns over sampled lines.
        centre_lines: number of fully sampled lines around n // 2.
        rng: source of the offset.
    """
    mask = np.zeros(columns, dtype=bool)
    mask[_centre(columns, centre_lines)] = True
    wanted = columns / acceleration - centre_lines
    # At high accelerations the centre alone may be more than the share of lines: nothing is added then.
    if wanted >= 1:
        spacing = (columns - centre_lines) / wanted
        lines = np.arange(rng.uniform(0, spacing), columns, spacing).astype(int)
        mask[lines] = True
    return mask


def variable_density_mask(columns: int, acceleration: float, centre_lines: int, rng: Generator) -> Mask:
    """Sample as Schlemper et al.: pdf = exp(-0.5 (x - N/2)^2 / (N/10)^2) + 1/(2R), a full centre, N/R lines in all.

    Args:
        columns: N, the number of lines of the grid.
        acceleration: R, columns over sampled lines.
        centre_lines: number of fully sampled lines around n // 2.
        rng: source of the choice.
    """
    distance = np.arange(columns) - columns / 2
    density = np.exp(-0.5 * (distance / (columns / 10)) ** 2) + 0.5 / acceleration
    centre = np.zeros(columns, dtype=bool)
    centre[_centre(columns, centre_lines)] = True
    return _fill(centre, density, round(columns / acceleration), rng)


# All patterns have one signature, so that training, command line and benchmarks choose them by name.
MASKS: dict[str, Callable[[int, float, int, Generator], Mask]] = {
    "random": random_mask,
    "equispaced": equispaced_mask,
    "variable-density": variable_density_mask,
}


def centre_lines(columns: int, acceleration: float) -> int:
    """Return fastMRI's usual number of central lines: 8% at 4x, 4% at 8x, else in proportion; 2 at least."""
    return max(2, round(columns * 0.32 / acceleration))


def acceleration(mask: Bool[ndarray, "slice row column"]) -> float:
    """Compute grid points over measured points, averaged over slices."""
    # At least one point, so that an empty mask gives a finite number.
    return float(mask.size / max(int(mask.sum()), 1))


def measured_mask(kspace: Complex[ndarray, "slice coil row column"]) -> Bool[ndarray, "slice row column"]:
    """Read the mask off zero-filled k-space: True where any coil has a sample other than zero."""
    return np.any(kspace != 0, axis=1)


def whole_lines(mask: Bool[ndarray, "slice row column"]) -> Bool[ndarray, "slice row column"]:
    """Complete a mask that was read off k-space to whole lines, if whole lines are what was sampled.

    Args:
        mask: True where a sample is not zero. An isolated exact zero within a readout is a sample, too.

    Returns:
        The mask with every touched column measured over its whole readout; `mask` itself if a pattern varies along the
        rows.
    """
    lines = mask.any(axis=1, keepdims=True)
    share = mask.sum(axis=1, keepdims=True) / mask.shape[1]
    # 90%: more than a pattern of points leaves of a line, and less than chance zeros within a readout do.
    return np.broadcast_to(lines, mask.shape) if np.all(share[lines] > 0.9) else mask


def calibration_region(mask: Bool[ndarray, "row column"]) -> tuple[slice, slice]:
    """Find the fully sampled rectangle at the centre of k-space, grown side by side from the centre sample.

    If that sample is missing, the rectangle grows from the neighbour on the side that gives the larger one.

    Returns:
        Rows and columns; both are empty if neither the centre nor a neighbour was measured.
    """
    rows, columns = mask.shape
    row, column = rows // 2, columns // 2
    if mask[row, column]:
        return _grow_region(mask, row, column)
    beside = [
        _grow_region(mask, row, near) for near in (column - 1, column + 1) if 0 <= near < columns and mask[row, near]
    ]
    return max(beside, key=_area, default=(slice(row, row), slice(column, column)))


def _area(region: tuple[slice, slice]) -> int:
    return (region[0].stop - region[0].start) * (region[1].stop - region[1].start)


def _grow_region(mask: Bool[ndarray, "row column"], top: int, left: int) -> tuple[slice, slice]:
    # One row or column at a time on each side in turn, so that a rectangle of any proportions is found in whole.
    rows, columns = mask.shape
    bottom, right = top, left
    growing = True
    while growing:
        growing = False
        if top > 0 and mask[top - 1, left : right + 1].all():
            top, growing = top - 1, True
        if bottom < rows - 1 and mask[bottom + 1, left : right + 1].all():
            bottom, growing = bottom + 1, True
        if left > 0 and mask[top : bottom + 1, left - 1].all():
            left, growing = left - 1, True
        if right < columns - 1 and mask[top : bottom + 1, right + 1].all():
            right, growing = right + 1, True
    return slice(top, bottom + 1), slice(left, right + 1)
