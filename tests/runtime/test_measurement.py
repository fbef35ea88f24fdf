import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from kdmri.data.kspace import KSpace
from kdmri.phantoms import phantom, scan
from kdmri.physics.fourier import centre_crop, ifft2c
from kdmri.runtime.measurement import remove_oversampling


def plain(kspace: KSpace) -> torch.Tensor:
    return centre_crop(ifft2c(torch.from_numpy(kspace.samples)), kspace.image_shape)


@settings(max_examples=20)
@given(rows=st.integers(1, 24), wanted=st.integers(1, 24), acceleration=st.sampled_from([1, 3]))
def test_the_image_stays_and_the_work_shrinks(rows: int, wanted: int, acceleration: float) -> None:
    measured = scan(phantom(rows, 16), coils=2, acceleration=acceleration)
    wanted = min(rows, wanted)
    oversampled = KSpace(measured.samples, measured.mask, (wanted, 12))
    found = remove_oversampling(oversampled)
    assert found.samples.shape == (1, 2, wanted, 16)
    assert found.mask.shape == (1, wanted, 16)
    assert found.image_shape == (wanted, 12)
    assert_array_equal(found.mask[0, 0], oversampled.mask[0, 0])
    assert_allclose(plain(found), plain(oversampled), atol=1e-5)
    assert not found.samples[..., ~found.mask[0, 0]].any()


def test_sampling_that_varies_along_the_readout_is_left_alone() -> None:
    mask = np.random.default_rng(0).random((1, 24, 16)) < 0.5
    measured = KSpace(scan(phantom(24, 16)).samples * mask, mask, (12, 16))
    assert remove_oversampling(measured) is measured
