"""Scales: exact in their arithmetic, equivariant in the units, and robust against a few bright points."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from kdmri.physics.scaling import LARGEST_EXPONENT, PERCENTILE, divide, intensity_scale, power_of_two

exponents = st.integers(-100, 100)
seeds = st.integers(0, 99)


def drawn(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@given(exponents, seeds)
def test_brightness_is_in_the_units_of_the_input(exponent: int, seed: int) -> None:
    image = drawn(3, 9, 11, seed=seed, dtype=torch.complex64)
    assert_allclose(intensity_scale(image * 2.0**exponent), intensity_scale(image) * 2.0**exponent, rtol=1e-6)


@given(st.integers(1, 40), st.integers(1, 40), seeds)
def test_brightness_is_a_value_with_one_percent_of_the_pixels_above_it(rows: int, columns: int, seed: int) -> None:
    image = drawn(1, rows, columns, seed=seed).abs() + 1
    above = int((image > intensity_scale(image)).sum())
    pixels = rows * columns
    assert above <= (1 - PERCENTILE) * pixels
    assert above > (1 - PERCENTILE) * pixels - 1 - 1e-9


@given(seeds)
def test_bright_points_do_not_change_the_brightness_of_tissue(seed: int) -> None:
    image = drawn(1, 40, 40, seed=seed).abs() + 1
    spiked = image.clone()
    spiked[0, 3, 5] = 100
    assert_allclose(intensity_scale(spiked), intensity_scale(image), rtol=0.1)


def test_a_lone_bright_point_in_air_is_the_brightness() -> None:
    image = torch.zeros(2, 20, 20)
    image[0, 4, 4] = 7
    assert intensity_scale(image).flatten().tolist() == [7, 1]


@pytest.mark.parametrize(("share", "expected"), [(0.9e-3, 1.0), (1.1e-3, 1.1e-3)])
def test_tissue_counts_from_a_thousandth_of_the_brightest_point(share: float, expected: float) -> None:
    image = torch.full((1, 20, 20), share)
    image[0, 0, 0] = 1
    assert intensity_scale(image).item() == pytest.approx(expected)


@given(exponents, seeds, st.sampled_from([torch.float32, torch.complex64]))
def test_division_leaves_values_next_below_two_and_is_exact(exponent: int, seed: int, dtype: torch.dtype) -> None:
    array = drawn(3, 2, 5, seed=seed, dtype=dtype) * 2.0**exponent
    powers = power_of_two(array)
    divided = divide(array, powers)
    assert divided.dtype == dtype
    parts = torch.view_as_real(divided) if dtype.is_complex else divided
    largest = parts.abs().flatten(1).amax(dim=1)
    assert ((largest >= 1) & (largest < 2)).all()
    assert torch.equal(divided * powers.reshape(-1, 1, 1), array)
    assert all(math.log2(power).is_integer() for power in powers.tolist())


def test_each_element_of_a_batch_has_a_power_of_its_own() -> None:
    powers = power_of_two(torch.tensor([[0.0, 0.0], [-6.0, 1.0], [0.25, 0.1], [1.0, -1.0]]))
    assert powers.tolist() == [0, 4, 0.25, 1]


def test_zeros_stay_zeros() -> None:
    array = torch.zeros(2, 3, dtype=torch.complex64)
    assert torch.equal(divide(array, power_of_two(array)), array)


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_a_value_that_is_not_finite_shows_in_the_power_of_its_element_alone(value: float) -> None:
    powers = power_of_two(torch.tensor([[3.0, value], [3.0, 1.0]]))
    assert not powers[0].isfinite()
    assert powers[1] == 2


@pytest.mark.parametrize("value", [1e-40, 3e38])
def test_powers_and_their_inverses_are_normal_numbers(value: float) -> None:
    (power,) = power_of_two(torch.tensor([[value]])).tolist()
    assert abs(math.log2(power)) <= LARGEST_EXPONENT
    assert torch.isfinite(divide(torch.tensor([[value]]), torch.tensor([power]))).all()
