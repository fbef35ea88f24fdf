import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdmri.physics.sampling import MASKS, calibration_region, centre_lines, measured_mask, whole_lines

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
