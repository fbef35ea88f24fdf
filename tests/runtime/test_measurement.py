from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from kdmri.data.kspace import KSpace
from kdmri.phantoms import phantom, scan
from kdmri.physics.fourier import centre_crop, ifft2c
from kdmri.runtime.measurement import measurements, remove_oversampling


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


def virtual_coils(kspace: KSpace, coils: int | None = None) -> int:
    """Return the number of virtual coils that a scan is reconstructed from."""
    (measured,) = measurements(kspace, torch.device("cpu"), coils=coils)
    return measured.acquisition.coils


@pytest.mark.parametrize(("acceleration", "expected"), [(2, 4), (4, 8), (8, 12)])
def test_a_separate_calibration_leaves_two_coils_for_each_pixel_that_folds_if_there_are_as_many(
    acceleration: int, expected: int
) -> None:
    """Twelve coils that all see the same, so that one keeps their energy: more can only be for the folds."""
    rows, columns = 16, 32
    seen = np.repeat(scan(phantom(rows, columns)).samples, 12, axis=1)
    lines = np.arange(columns) % acceleration == 0
    folded = KSpace(seen * lines, np.broadcast_to(lines, (1, rows, columns)), (rows, columns))
    full = KSpace(seen, np.ones((1, rows, columns), bool), (rows, columns))
    assert virtual_coils(replace(folded, calibration=full)) == expected
    assert virtual_coils(replace(folded, calibration=full), coils=3) == 3
    assert virtual_coils(full) == 1
