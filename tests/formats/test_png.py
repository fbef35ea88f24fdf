"""PNG previews: what Pillow reads back is the picture, as bright as a viewer would show it."""

import io
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy import ndarray
from numpy.testing import assert_allclose
from PIL import Image
from pydicom.data import get_testdata_file

from kdmri.data.images import Images
from kdmri.formats import nifti, png
from kdmri.formats.dicom import reader as dicom
from kdmri.phantoms import phantom


def rendered(pixels: ndarray) -> ndarray:
    image = Image.open(io.BytesIO(png.to_bytes(Images(pixels.astype(np.float32)))))
    assert (image.format, image.mode) == ("PNG", "L")
    return np.asarray(image)


@given(scale=st.floats(1e-6, 1e6))
def test_the_picture_does_not_depend_on_the_scale(scale: float) -> None:
    image = phantom(40, 30)
    assert_allclose(rendered(image * scale).astype(int), rendered(image).astype(int), atol=1)


def test_brighter_stays_brighter_and_the_range_is_used() -> None:
    ramp = np.linspace(3, 5, 1000).reshape(1, 20, 50)
    grey = rendered(ramp).ravel()
    assert (np.diff(grey.astype(int)) >= 0).all()
    assert (grey[0], grey[-1]) == (0, 255)
    assert_allclose(grey[500], 128, atol=3)


def test_one_bright_pixel_does_not_darken_the_rest() -> None:
    image = phantom(64, 64)
    spoilt = image.copy()
    spoilt[0, 5, 5] = 1000 * image.max()
    assert_allclose(rendered(spoilt).astype(int), rendered(image).astype(int) + (spoilt != image)[0] * 255, atol=5)


@pytest.mark.parametrize("value", [0, 1, -3, np.nan])
def test_without_contrast_all_is_black(value: float) -> None:
    assert not rendered(np.full((2, 8, 8), value)).any()


def test_a_lone_structure_is_seen() -> None:
    image = np.zeros((1, 64, 64))
    image[0, 30, 30] = 1e-4
    assert rendered(image)[30, 30] == 255


@given(slices=st.integers(1, 12), rows=st.integers(1, 9), columns=st.integers(1, 9))
def test_slices_are_laid_out_in_reading_order(slices: int, rows: int, columns: int) -> None:
    pixels = np.broadcast_to(np.arange(slices)[:, None, None] + 1, (slices, rows, columns))
    picture = rendered(pixels)
    down, across = picture.shape[0] // rows, picture.shape[1] // columns
    assert picture.shape == (down * rows, across * columns)
    assert down * across >= slices > (down - 1) * across
    tiles = picture.reshape(down, rows, across, columns).swapaxes(1, 2).reshape(-1, rows, columns)
    assert across <= slices  # no column of air beside a tall slice
    assert (tiles == tiles[:, :1, :1]).all()
    brightness = tiles[:slices, 0, 0].astype(int)
    assert (np.diff(brightness) >= 0).all()
    assert not tiles[slices:].any()


def test_one_window_serves_all_slices() -> None:
    dark, bright = phantom(32, 32), 2 * phantom(32, 32)
    picture = rendered(np.concatenate([dark, bright]))
    assert picture[:, :32].max() < picture[:, 32:].max() == 255
    shown = picture[:, 32:] < 255
    assert_allclose(2.0 * picture[:, :32][shown], picture[:, 32:][shown], atol=2)


def test_the_window_of_the_source_is_taken() -> None:
    header = pydicom.dcmread(get_testdata_file("MR_small.dcm", download=False))
    (series,) = dicom.read([Path(get_testdata_file("MR_small.dcm", download=False))])
    picture = np.asarray(Image.open(io.BytesIO(png.to_bytes(series.images, series.headers))))
    low = float(header.WindowCenter) - float(header.WindowWidth) / 2
    expected = np.clip((header.pixel_array - low) / float(header.WindowWidth) * 255, 0, 255)
    assert_allclose(picture.astype(int), expected, atol=1)
    assert abs(picture.astype(int) - rendered(series.images.pixels)).max() > 5  # another than without


def test_real_slices_are_neither_black_nor_burnt_out(data: Path) -> None:
    for source in sorted((data / "volumes" / "test").glob("*/*-*.nii.gz"))[:2]:
        picture = rendered(nifti.read(source).pixels)
        assert 10 < picture.mean() < 128
        assert (picture == 255).mean() < 0.02
