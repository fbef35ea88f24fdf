import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio

from kdmri.physics.scaling import intensity_scale
from kdmri.quality import metrics

rng = np.random.default_rng(0)
TRUTH = rng.random((3, 32, 40), dtype=np.float32)
NOISY = (TRUTH + 0.05 * rng.standard_normal(TRUTH.shape)).astype(np.float32)


def test_equal_volumes_are_perfect() -> None:
    assert metrics.psnr(TRUTH, TRUTH) == np.inf
    assert (metrics.nmse(TRUTH, TRUTH), metrics.ssim(TRUTH, TRUTH), metrics.hfn(TRUTH, TRUTH)) == (0, 1, 0)


def test_psnr_is_scikit_images() -> None:
    assert metrics.psnr(TRUTH, NOISY) == pytest.approx(
        peak_signal_noise_ratio(TRUTH, NOISY, data_range=TRUTH.max()), 1e-5
    )


@pytest.mark.parametrize("metric", [metrics.psnr, metrics.ssim, metrics.nmse, metrics.hfn])
def test_units_do_not_matter(metric) -> None:
    assert metric(TRUTH * 1e4, NOISY * 1e4) == pytest.approx(metric(TRUTH, NOISY), rel=1e-4)


def test_more_noise_is_worse() -> None:
    worse = TRUTH + 3 * (NOISY - TRUTH)
    assert metrics.psnr(TRUTH, worse) < metrics.psnr(TRUTH, NOISY)
    assert metrics.ssim(TRUTH, worse) < metrics.ssim(TRUTH, NOISY)
    assert metrics.nmse(TRUTH, worse) == pytest.approx(9 * metrics.nmse(TRUTH, NOISY), rel=1e-3)
    assert metrics.hfn(TRUTH, worse) == pytest.approx(3 * metrics.hfn(TRUTH, NOISY), rel=1e-3)


def test_hfn_sees_lost_edges_that_offsets_do_not_touch() -> None:
    assert metrics.hfn(TRUTH, TRUTH + 0.5) < 0.01 < metrics.hfn(TRUTH, np.full_like(TRUTH, 0.5))


def test_scale_is_that_of_bright_tissue() -> None:
    image = torch.zeros(3, 50, 50)
    image[0, 10:40, 10:40] = 5.0
    image[1, 3, 4] = 7.0
    assert intensity_scale(image).flatten().tolist() == [5.0, 7.0, 1.0]
    assert torch.equal(intensity_scale(1e6 * image)[:2], 1e6 * intensity_scale(image)[:2])
