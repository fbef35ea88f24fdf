from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from pydicom.data import get_testdata_file

from kdmri.data.geometry import Geometry
from kdmri.data.images import Images
from kdmri.errors import InvalidRequest
from kdmri.formats.dicom import reader as dicom
from kdmri.phantoms import phantom
from kdmri.physics.resampling import downsample, upsample
from kdmri.quality import metrics
from kdmri.runtime import SuperResolver
from kdmri.runtime.model import Model


@pytest.fixture(params=["student", "teacher"])
def resolver(request: pytest.FixtureRequest, models: dict[tuple[str, str], Model]) -> SuperResolver:
    return SuperResolver(models["super-resolution", request.param])


def halved(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A slice of even size and what is left of it after k-space truncation by two."""
    even = pixels[:, : pixels.shape[1] // 2 * 2, : pixels.shape[2] // 2 * 2]
    return even, downsample(torch.from_numpy(even), 2).numpy()


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("shape", [(48, 40), (31, 45)])
def test_what_was_measured_comes_back(resolver: SuperResolver, scale: int, shape: tuple[int, int]) -> None:
    coarse = phantom(*shape)
    fine = resolver.super_resolve(Images(coarse), scale).pixels
    assert fine.shape == (1, shape[0] * scale, shape[1] * scale)
    assert_allclose(downsample(torch.from_numpy(fine), scale), coarse, atol=1e-5)


@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_units_do_not_matter(resolver: SuperResolver, unit: float) -> None:
    coarse = phantom(40, 36)
    image, other = (resolver.super_resolve(Images((coarse * u).astype(np.float32)), 2).pixels for u in (1, unit))
    assert_allclose(other / unit, image, atol=1e-4 * image.max())


def test_stacks_of_one_size_get_from_one_pass_what_each_gets_alone(resolver: SuperResolver) -> None:
    stacks = [
        Images(10.0**count * phantom(32, 30).repeat(count, axis=0), Geometry.from_sizes(count, (32, 30), (count, 1), 2))
        for count in (1, 2)
    ]
    for found, stack in zip(resolver.super_resolve_each(stacks, 2), stacks, strict=True):
        alone = resolver.super_resolve(stack, 2)
        assert_allclose(found.pixels, alone.pixels, atol=1e-5 * alone.pixels.max())
        assert found.geometry is not None
        assert found.geometry.spacing == (len(stack.pixels) / 2, 0.5)


def test_other_scales_are_refused(resolver: SuperResolver) -> None:
    with pytest.raises(InvalidRequest, match="expected scale 2 or 4, got 3"):
        resolver.super_resolve(Images(phantom(16, 16)), 3)


def test_it_adds_true_detail_to_a_real_image(resolver: SuperResolver) -> None:
    """An abdomen, an anatomy that no model was trained on, at the resolution it was scanned with: half its matrix."""
    series = dicom.read([Path(get_testdata_file("examples_overlay.dcm"))])[0]
    _, scanned = halved(series.images.pixels)
    truth, coarse = halved(scanned)
    ours, sinc = resolver.super_resolve(Images(coarse), 2).pixels, upsample(torch.from_numpy(coarse), 2).numpy()
    assert metrics.psnr(truth, ours) > metrics.psnr(truth, sinc)
    assert metrics.ssim(truth, ours) > metrics.ssim(truth, sinc)


@pytest.mark.parametrize("series", ["t1_series", "t1_sagittal_series"])
def test_it_beats_sinc_on_real_series(resolver: SuperResolver, series: str, data: Path) -> None:
    files = sorted((data / "dicom" / series).glob("*.dcm"))
    truth, coarse = halved(dicom.read([files[len(files) // 2]])[0].images.pixels)
    ours, sinc = resolver.super_resolve(Images(coarse), 2).pixels, upsample(torch.from_numpy(coarse), 2).numpy()
    assert metrics.psnr(truth, ours) > metrics.psnr(truth, sinc)
    assert metrics.ssim(truth, ours) > metrics.ssim(truth, sinc)
