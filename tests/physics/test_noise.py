import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.ndimage import gaussian_filter

from kdmri.phantoms import phantom, scan
from kdmri.physics.noise import noise_deviation, prewhiten


@pytest.mark.parametrize("coils", [1, 4])
@pytest.mark.parametrize("deviation", [0.01, 0.05])
def test_noise_is_what_was_added(coils: int, deviation: float) -> None:
    """To an object without detail as fine as the corners of k-space hold: a scanner resolves no edge that sharply."""
    image = gaussian_filter(phantom(256, 256), (0, 1, 1))
    image /= image.max()
    measured = scan(image, coils=coils, acceleration=3, noise=deviation)
    assert noise_deviation(torch.from_numpy(measured.samples[0])) == pytest.approx(deviation, rel=0.15)


def test_rows_that_were_filled_with_zeros_say_nothing_of_noise() -> None:
    measured = scan(phantom(256, 128), noise=0.05)
    measured.samples[..., :40, :] = 0
    assert noise_deviation(torch.from_numpy(measured.samples[0])) == pytest.approx(
        0.05 * phantom(256, 128).max(), rel=0.15
    )


@given(coils=st.integers(1, 8), seed=st.integers(0, 2**16))
def test_whitened_noise_is_uncorrelated_and_as_strong_as_before(coils: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    mixing = np.eye(coils) + 0.3 * rng.standard_normal((coils, coils))
    # Beyond MAX_CONDITION, of the covariance, samples are left as they are.
    assume(np.linalg.cond(mixing) < 500)
    noise = (mixing @ (rng.standard_normal((2, coils, 4096)).T @ [1, 1j]).T).astype(np.complex64)
    noise -= noise.mean(axis=1, keepdims=True)
    white = prewhiten(noise[np.newaxis, :, :, np.newaxis], noise)[0, :, :, 0]
    strength = np.mean(np.abs(noise) ** 2)
    assert_allclose(white @ white.conj().T / noise.shape[1], strength * np.eye(coils), atol=1e-3 * strength)
