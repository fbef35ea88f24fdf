import numpy as np
import pytest
from kdmri_training.evaluation.raw import add_noise

from kdmri.phantoms import phantom, scan


def test_noise_is_as_strong_as_asked_white_and_the_same_for_a_seed() -> None:
    full = scan(phantom(64, 64), coils=3)
    added = add_noise(full, 0.3, seed=1).samples - full.samples
    assert added.dtype == np.complex64
    assert added.real.std() == pytest.approx(0.3, rel=0.03)
    assert added.imag.std() == pytest.approx(0.3, rel=0.03)
    assert abs(np.corrcoef(added[0, 0].ravel(), added[0, 1].ravel())[0, 1]) < 0.05
    np.testing.assert_array_equal(add_noise(full, 0.3, seed=1).samples, full.samples + added)
    assert not np.allclose(add_noise(full, 0.3, seed=2).samples, full.samples + added, atol=0.1)
