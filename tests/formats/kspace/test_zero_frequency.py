"""Zero frequency is found wherever a file has it, and moving it to the centre leaves the magnitude image alone."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from kdmri.formats.kspace.zero_frequency import displacement, energy, note, shift_mask, shift_samples
from kdmri.phantoms import phantom, scan

SHIFTS = [(16, 12), (0, 9), (-11, 0), (16, -10)]


@pytest.mark.parametrize("shift", SHIFTS)
def test_a_displaced_centre_is_found_and_moved_back(shift: tuple[int, int]) -> None:
    centred = scan(phantom(32, 24), coils=3)
    displaced = np.roll(centred.samples, shift, axis=(-2, -1))
    found = displacement(energy(displaced))
    assert_array_equal(np.mod(np.add(found, shift), (32, 24)), 0)
    assert_array_equal(shift_samples(displaced, found), centred.samples)
    assert_array_equal(shift_mask(np.roll(centred.mask, shift, axis=(-2, -1)), found), centred.mask)


@pytest.mark.parametrize("shift", SHIFTS)
def test_a_shift_leaves_the_magnitude_alone(shift: tuple[int, int]) -> None:
    samples = scan(phantom(32, 24)).samples
    expected = np.abs(np.fft.ifft2(samples))
    assert_allclose(np.abs(np.fft.ifft2(shift_samples(samples, shift))), expected, atol=1e-6 * expected.max())


@pytest.mark.parametrize("shift", [(0, 0), (2, 0), (-1, 3)])
def test_a_few_samples_are_tolerated(shift: tuple[int, int]) -> None:
    assert displacement(energy(np.roll(scan(phantom(32, 24)).samples, shift, axis=(-2, -1)))) == (0, 0)


@pytest.mark.parametrize("columns", [[0], [1, 23], [3, 20]])
def test_a_scan_without_its_centre_is_not_shifted(columns: list[int]) -> None:
    samples = np.zeros_like(original := scan(phantom(32, 24)).samples)
    samples[..., columns] = original[..., columns]
    assert displacement(energy(samples)) == (0, 0)


def test_the_note_gives_both_places() -> None:
    (text,) = note((32, 24), (16, 12))
    assert "row 0, column 0" in text
    assert "row 16, column 12" in text
    assert note((32, 24), (0, 0)) == ()
