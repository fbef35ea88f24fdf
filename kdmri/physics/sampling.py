"""Cartesian sampling: masks along the phase-encode axis, and what k-space tells of its own."""

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
    """`centre` and further lines drawn without replacement with the given probabilities, `wanted` in all."""
    mask = centre.copy()
    probability = np.where(mask, 0, probability)
    missing = min(wanted - int(mask.sum()), int((probability > 0).sum()))
    if missing > 0:
        mask[rng.choice(mask.size, missing, replace=False, p=probability / probability.sum())] = True
    return mask


def random_mask(columns: int, acceleration: float, centre_lines: int, rng: Generator) -> Mask:
    """Fully sampled centre, the other lines uniformly at random: columns / acceleration lines in all."""
    centre = np.zeros(columns, dtype=bool)
    centre[_centre(columns, centre_lines)] = True
    return _fill(centre, np.ones(columns), round(columns / acceleration), rng)


def equispaced_mask(columns: int, acceleration: float, centre_lines: int, rng: Generator) -> Mask:
    """Fully sampled centre and equally spaced lines with a random offset: columns / acceleration lines in all.

    The spacing makes up for the centre lines, as in fastMRI's EquispacedMaskFractionFunc.
    """
    mask = np.zeros(columns, dtype=bool)
    mask[_centre(columns, centre_lines)] = True
    wanted = columns / acceleration - centre_lines
    if wanted >= 1:
        spacing = (columns - centre_lines) / wanted
        lines = np.arange(rng.uniform(0, spacing), columns, spacing).astype(int)
        mask[lines] = True
    return mask


def variable_density_mask(columns: int, acceleration: float, centre_lines: int, rng: Generator) -> Mask:
    """Schlemper's mask: pdf = exp(-0.5 (x - N/2)^2 / (N/10)^2) + 1/(2R), a sampled centre, N/R lines in all."""
    distance = np.arange(columns) - columns / 2
    density = np.exp(-0.5 * (distance / (columns / 10)) ** 2) + 0.5 / acceleration
    centre = np.zeros(columns, dtype=bool)
    centre[_centre(columns, centre_lines)] = True
    return _fill(centre, density, round(columns / acceleration), rng)


MASKS: dict[str, Callable[[int, float, int, Generator], Mask]] = {
    "random": random_mask,
    "equispaced": equispaced_mask,
    "variable-density": variable_density_mask,
}


def centre_lines(columns: int, acceleration: float) -> int:
    """fastMRI's usual share of central lines: 8% at 4x, 4% at 8x, between and beyond in proportion; 2 at least."""
    return max(2, round(columns * 0.32 / acceleration))


def acceleration(mask: Bool[ndarray, "slice row column"]) -> float:
    """Grid points over measured points, averaged over slices."""
    return float(mask.size / max(int(mask.sum()), 1))


def measured_mask(kspace: Complex[ndarray, "slice coil row column"]) -> Bool[ndarray, "slice row column"]:
    """The mask read off zero-filled k-space: where any coil holds a sample."""
    return np.any(kspace != 0, axis=1)


def whole_lines(mask: Bool[ndarray, "slice row column"]) -> Bool[ndarray, "slice row column"]:
    """`mask` with every touched column taken as measured over its whole readout, where that is how lines were sampled.

    An isolated exact zero within a readout is a sample. Patterns that vary along the rows come back as they are.
    """
    lines = mask.any(axis=1, keepdims=True)
    share = mask.sum(axis=1, keepdims=True) / mask.shape[1]
    return np.broadcast_to(lines, mask.shape) if np.all(share[lines] > 0.9) else mask


def calibration_region(mask: Bool[ndarray, "row column"]) -> tuple[slice, slice]:
    """The fully sampled rectangle at the centre of k-space, grown side by side from the centre sample.

    Where that one is missing, from its neighbour on the side that gives the larger rectangle.
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
