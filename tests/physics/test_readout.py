"""Readout oversampling: the crop keeps the centre of the image, whatever the sizes."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from kdmri.physics.fourier import centre_crop, fft2c, ifft2c
from kdmri.physics.readout import crop_readout
from tests.laws.adjointness import draw


@given(st.integers(1, 24), st.integers(0, 24), st.integers(1, 9), st.integers(0, 99))
def test_the_cropped_readout_is_that_of_the_images_centre(wanted: int, more: int, columns: int, seed: int) -> None:
    image = draw(2, wanted + more, columns, seed=seed)
    found = ifft2c(crop_readout(fft2c(image), wanted))
    assert_allclose(found, centre_crop(image, (wanted, columns)), atol=1e-12)


@given(st.integers(1, 24), st.integers(1, 9), st.integers(0, 99))
def test_a_readout_of_the_wanted_length_stays(rows: int, columns: int, seed: int) -> None:
    samples = draw(1, rows, columns, seed=seed)
    assert_allclose(crop_readout(samples, rows), samples, atol=1e-12)


def test_lines_that_were_not_measured_stay_empty() -> None:
    samples = draw(1, 16, 6, seed=0)
    samples[..., ::2] = 0
    cropped = crop_readout(samples, 8)
    assert torch.equal(cropped[..., ::2], torch.zeros(1, 8, 3, dtype=cropped.dtype))
