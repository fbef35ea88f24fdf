from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from kdmri.physics.fourier import centre_crop, fft2c, fftc, ifft2c, ifftc
from tests.laws.adjointness import assert_adjoint, draw

sizes = st.tuples(st.integers(1, 33), st.integers(1, 33))


@given(sizes)
def test_inverse(shape: tuple[int, int]) -> None:
    image = draw(2, *shape)
    assert_allclose(ifft2c(fft2c(image)), image, atol=1e-12)


@given(sizes)
def test_adjoint(shape: tuple[int, int]) -> None:
    assert_adjoint(fft2c, ifft2c, domain=draw(*shape), range_=draw(*shape, seed=1))


@given(sizes, st.sampled_from([-2, -1]))
def test_one_axis_is_inverse_adjoint_and_half_of_two(shape: tuple[int, int], axis: int) -> None:
    image = draw(2, *shape)
    assert_adjoint(partial(fftc, axis=axis), partial(ifftc, axis=axis), domain=image, range_=draw(2, *shape, seed=1))
    assert_allclose(ifftc(fftc(image, axis), axis), image, atol=1e-12)
    assert_allclose(fftc(fftc(image, -1), -2), fft2c(image), atol=1e-12)


@given(sizes)
def test_zero_frequency_lies_at_half_the_size(shape: tuple[int, int]) -> None:
    kspace = fft2c(torch.ones(shape, dtype=torch.complex128))
    expected = torch.zeros_like(kspace)
    expected[shape[0] // 2, shape[1] // 2] = (shape[0] * shape[1]) ** 0.5
    assert_allclose(kspace, expected, atol=1e-10)


@given(sizes, st.data())
def test_crop_keeps_the_centre(shape: tuple[int, int], data: st.DataObject) -> None:
    smaller = tuple(data.draw(st.integers(1, size)) for size in shape)
    image = torch.zeros(shape)
    image[shape[0] // 2, shape[1] // 2] = 1
    assert centre_crop(image, smaller)[smaller[0] // 2, smaller[1] // 2] == 1


def test_crop_larger_than_the_image_is_refused() -> None:
    with pytest.raises(ValueError, match="within 4 x 4, got 5 x 4"):
        centre_crop(torch.zeros(4, 4), (5, 4))
