import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdmri.physics.sampling import (
    MASKS,
    acceleration,
    calibration_region,
    centre_lines,
    measured_mask,
    whole_lines,
)

kinds = st.sampled_from(sorted(MASKS))
columns_of = st.integers(64, 400)
accelerations = st.floats(2, 10)
seeds = st.integers(0, 2**31)


@given(kinds, columns_of, accelerations, seeds)
def test_masks_hold_their_centre_and_their_acceleration(
    kind: str, columns: int, acceleration: float, seed: int
) -> None:
    lines = centre_lines(columns, acceleration)
    mask = MASKS[kind](columns, acceleration, lines, np.random.default_rng(seed))
    start = columns // 2 - lines // 2
    assert mask[start : start + lines].all()
    # Equispaced lines may fall on central ones: those are not made up for.
    slack = lines if kind == "equispaced" else 1
    assert abs(mask.sum() - columns / acceleration) <= slack + 1


@given(kinds, seeds)
def test_masks_depend_on_the_seed_alone(kind: str, seed: int) -> None:
    first, second = (MASKS[kind](128, 4, 10, np.random.default_rng(seed)) for _ in range(2))
    assert (first == second).all()


def test_variable_density_prefers_the_centre() -> None:
    rng = np.random.default_rng(0)
    counts = sum(MASKS["variable-density"](256, 4, 10, rng).astype(int) for _ in range(200))
    assert counts[96:160].mean() > 2 * counts[:64].mean()


@pytest.mark.parametrize(("acceleration", "lines"), [(4, 20), (8, 10)])
def test_centre_is_fastmris(acceleration: float, lines: int) -> None:
    assert centre_lines(256, acceleration) == lines


def test_calibration_region_of_lines_and_of_points() -> None:
    lines = np.zeros((16, 24), bool)
    lines[:, 2::4] = True
    lines[:, 9:15] = True
    assert calibration_region(lines) == (slice(0, 16), slice(9, 15))
    points = np.zeros((16, 24), bool)
    points[5:11, 8:16] = True
    points[::7, ::7] = True
    assert calibration_region(points) == (slice(5, 11), slice(8, 16))


@pytest.mark.parametrize(("missing", "expected"), [(12, slice(0, 12)), (11, slice(12, 24)), (0, slice(1, 24))])
def test_calibration_region_beside_a_missing_line(missing: int, expected: slice) -> None:
    mask = np.ones((16, 24), bool)
    mask[:, missing] = False
    assert calibration_region(mask) == (slice(0, 16), expected)


def test_no_centre_no_calibration() -> None:
    assert calibration_region(np.zeros((8, 8), bool)) == (slice(4, 4), slice(4, 4))


@given(seeds)
def test_a_zero_sample_in_a_line_is_a_sample(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = np.broadcast_to(MASKS["random"](64, 4, 6, rng), (1, 40, 64))
    samples = np.where(mask, rng.standard_normal((1, 40, 64)) + 1, 0).astype(np.complex64)[:, None]
    row, column = rng.integers(40), rng.choice(np.flatnonzero(mask[0, 0]))
    samples[..., row, column] = 0
    assert (whole_lines(measured_mask(samples)) == mask).all()


def test_points_stay_points() -> None:
    mask = np.random.default_rng(0).random((1, 40, 64)) < 0.3
    assert (whole_lines(mask) == mask).all()


@given(st.integers(10, 400), st.floats(1, 400))
def test_central_lines_are_in_proportion_to_the_sampled_ones_and_two_at_least(
    columns: int, acceleration: float
) -> None:
    lines = centre_lines(columns, acceleration)
    assert lines >= 2
    assert lines == 2 or abs(lines - 0.32 * columns / acceleration) <= 0.5


@given(seeds)
def test_acceleration_is_grid_points_over_samples(seed: int) -> None:
    mask = np.random.default_rng(seed).random((2, 5, 7)) < 0.4
    mask[0, 0, 0] = True
    assert acceleration(mask) * mask.sum() == pytest.approx(mask.size)
    assert acceleration(np.zeros((2, 5, 7), bool)) == 70


@given(seeds)
def test_a_point_is_measured_if_any_coil_holds_a_sample_there(seed: int) -> None:
    rng = np.random.default_rng(seed)
    samples = (rng.standard_normal((2, 3, 4, 5)) * (rng.random((2, 3, 4, 5)) < 0.4)).astype(np.complex64)
    found = measured_mask(samples)
    for slice_, row, column in np.ndindex(found.shape):
        assert found[slice_, row, column] == bool(samples[slice_, :, row, column].any())


@given(columns_of, accelerations, seeds)
def test_equispaced_lines_beside_the_centre_are_equally_spaced(columns: int, acceleration: float, seed: int) -> None:
    lines = centre_lines(columns, acceleration)
    mask = MASKS["equispaced"](columns, acceleration, lines, np.random.default_rng(seed))
    start = columns // 2 - lines // 2
    for side in (np.flatnonzero(mask[:start]), np.flatnonzero(mask[start + lines :])):
        steps = np.diff(side)
        assert steps.size == 0 or steps.max() - steps.min() <= 1
    # The spacing makes up for the centre: lines on both sides, and no more beyond the centre than were asked for.
    spacing = (columns - lines) / (columns / acceleration - lines)
    assert np.diff(np.flatnonzero(mask)).max() <= spacing + 1


@given(columns_of, st.integers(0, 40), seeds)
def test_a_centre_that_is_all_that_was_asked_for_gets_no_more_lines(columns: int, lines: int, seed: int) -> None:
    for mask in MASKS.values():
        found = mask(columns, columns / max(lines, 1), lines, np.random.default_rng(seed))
        assert found.sum() == max(lines, 1) if lines != 0 else found.sum() <= 2


@given(st.integers(64, 400), st.floats(2, 10))
def test_variable_density_is_even_handed_between_the_sides(columns: int, acceleration: float) -> None:
    """The density has its maximum at columns / 2, and the outer lines are as likely on either side."""
    rng = np.random.default_rng(0)
    counts = sum(MASKS["variable-density"](columns, acceleration, 2, rng).astype(int) for _ in range(100))
    quarter = columns // 4
    left, right = counts[1:quarter].sum(), counts[columns - quarter + 1 :].sum()
    assert abs(int(left) - int(right)) <= 6 * np.sqrt(left + right + 1)
    assert left + right < 0.5 * counts.sum()


@given(st.integers(1, 12), st.integers(1, 12), seeds)
def test_a_calibration_region_is_measured_and_cannot_grow(rows: int, columns: int, seed: int) -> None:
    mask = np.random.default_rng(seed).random((rows, columns)) < 0.8
    mask[rows // 2, columns // 2] = True
    down, along = calibration_region(mask)
    assert mask[down, along].all()
    assert down.start <= rows // 2 < down.stop
    assert along.start <= columns // 2 < along.stop
    beside = [(slice(down.start - 1, down.start), along), (slice(down.stop, down.stop + 1), along)]
    beside += [(down, slice(along.start - 1, along.start)), (down, slice(along.stop, along.stop + 1))]
    for more in beside:
        edge = mask[more] if min(more[0].start, more[1].start) >= 0 else mask[:0]
        assert edge.size == 0 or not edge.all()


@pytest.mark.parametrize(("share", "whole"), [(36, False), (37, True)])
def test_columns_are_lines_from_nine_tenths_of_their_readout(share: int, whole: bool) -> None:
    mask = np.zeros((1, 40, 6), bool)
    mask[:, :share, ::2] = True
    found = whole_lines(mask)
    assert found[..., ::2].all() == whole
    assert not found[..., 1::2].any()
    assert whole or (found == mask).all()
