import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from kdmri.data.geometry import Geometry
from kdmri.physics.fourier import fft2c
from kdmri.physics.resampling import as_complex, downsample, measured_band, upsample

sizes = st.tuples(st.integers(2, 24), st.integers(2, 24))
scales = st.sampled_from((2, 3, 4))


def picture(shape: tuple[int, int], seed: int = 0) -> torch.Tensor:
    return torch.rand((1, *shape), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@given(sizes, scales)
def test_down_undoes_up(shape: tuple[int, int], scale: int) -> None:
    image = picture(shape)
    assert_allclose(downsample(upsample(image, scale), scale), image, atol=1e-12)


@given(sizes, scales)
def test_up_measures_nothing_outside_its_band(shape: tuple[int, int], scale: int) -> None:
    kspace = fft2c(as_complex(upsample(picture(shape), scale)))[0]
    assert kspace[~measured_band(shape, scale)].abs().max() < 1e-10


@given(sizes, scales)
def test_replacing_the_band_makes_any_image_consistent(shape: tuple[int, int], scale: int) -> None:
    coarse = picture(shape)
    fine = picture((shape[0] * scale, shape[1] * scale), seed=1)
    band = measured_band(shape, scale)
    kspace = torch.where(band, fft2c(as_complex(upsample(coarse, scale))), fft2c(as_complex(fine)))
    shifted = torch.fft.ifftshift(kspace, dim=(-2, -1))
    consistent = torch.fft.fftshift(torch.fft.ifft2(shifted, norm="ortho"), dim=(-2, -1))
    assert consistent.imag.abs().max() < 1e-10
    assert_allclose(downsample(consistent.real, scale), coarse, atol=1e-10)


@settings(max_examples=20)
@given(st.floats(0.3, 0.7), st.floats(0.3, 0.7), scales)
def test_a_point_keeps_its_place_in_the_field_of_view(row: float, column: float, scale: int) -> None:
    """A narrow blob at a known share of the field of view has its centroid there before and after."""

    def blob(size: int) -> torch.Tensor:
        centres = (torch.arange(size, dtype=torch.float64) + 0.5) / size
        rows, columns = torch.exp(-(((centres - row) / 0.06) ** 2)), torch.exp(-(((centres - column) / 0.06) ** 2))
        return (rows[:, None] * columns)[None]

    assert_allclose(upsample(blob(32), scale), blob(32 * scale), atol=2e-4)


def test_constant_stays_constant() -> None:
    assert_allclose(upsample(torch.full((1, 5, 6), 7.0), 2), 7.0, rtol=1e-6)


def test_indivisible_size_is_refused() -> None:
    with pytest.raises(ValueError, match="divisible by 2, got 5 x 6"):
        downsample(torch.zeros(1, 5, 6), 2)


@given(scales, st.integers(4, 20), st.integers(4, 20))
def test_geometry_keeps_the_corners(scale: int, rows: int, columns: int) -> None:
    rng = np.random.default_rng(rows)
    axes = np.linalg.qr(rng.standard_normal((3, 3)))[0][:2]
    coarse = Geometry(rng.standard_normal((1, 3)), axes, (0.8, 1.3), 5.0)

    def corners(geometry: Geometry, shape: tuple[int, int]) -> np.ndarray:
        along_row, along_column = geometry.orientation
        first = geometry.positions[0] - 0.5 * (along_row * geometry.spacing[1] + along_column * geometry.spacing[0])
        extents = along_row * geometry.spacing[1] * shape[1], along_column * geometry.spacing[0] * shape[0]
        return np.stack([first, first + extents[0], first + extents[1]])

    before, after = corners(coarse, (rows, columns)), corners(coarse.refine(scale), (rows * scale, columns * scale))
    assert_allclose(after, before, atol=1e-12)
