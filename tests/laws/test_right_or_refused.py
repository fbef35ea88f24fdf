"""The runtime answers with finite images in the units of the input, or refuses: for any magnitude, zeros and NaN."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from kdmri.data.images import Images
from kdmri.errors import UnsupportedInput
from kdmri.phantoms import phantom, scan
from kdmri.runtime import Reconstructor, SuperResolver, zero_filled
from kdmri.runtime.model import Model

Models = dict[tuple[str, str], Model]
LARGEST = float(np.finfo(np.float32).max)


@pytest.mark.parametrize("coils", [1, 4])
@pytest.mark.parametrize("unit", [1e-36, 1e-30, 1e20, 1e35])
def test_any_magnitude_is_reconstructed_in_its_units(models: Models, unit: float, coils: int) -> None:
    reconstructor = Reconstructor(models["reconstruction", "student"])
    measured = scan(phantom(48, 40), acceleration=3, coils=coils, noise=0.01)
    rescaled = replace(measured, samples=(measured.samples.astype(np.complex128) * unit).astype(np.complex64))
    expected, found = (reconstructor.reconstruct(k) for k in (measured, rescaled))
    # Several coils: a difference in the last digit of the input may pass a threshold of the sparse fit.
    assert_allclose(found.pixels / unit, expected.pixels, atol=(1e-4 if coils == 1 else 1e-3) * expected.pixels.max())
    assert found.residual == pytest.approx(expected.residual, rel=1e-2, abs=1e-5)


@pytest.mark.parametrize("coils", [1, 4])
@pytest.mark.parametrize("magnitude", [1e-38, 1e38])
def test_the_ends_of_single_precision_give_finite_images(models: Models, magnitude: float, coils: int) -> None:
    """1e-38 lies below the normal numbers of float32, which leaves few digits: a hundredth is the least to expect."""
    measured = scan(phantom(48, 40), acceleration=3, coils=coils)
    samples = measured.samples.astype(np.complex128) * (magnitude / np.abs(measured.samples).max())
    found = Reconstructor(models["reconstruction", "student"]).reconstruct(
        replace(measured, samples=samples.astype(np.complex64))
    )
    assert np.isfinite(found.pixels).all()
    expected = Reconstructor(models["reconstruction", "student"]).reconstruct(measured).pixels
    relative = found.pixels.astype(np.float64) / magnitude * np.abs(measured.samples).max()
    assert np.linalg.norm(relative - expected) < 0.01 * np.linalg.norm(expected)


@pytest.mark.parametrize("coils", [1, 4])
def test_zeros_give_zeros(models: Models, coils: int) -> None:
    measured = scan(phantom(48, 40).repeat(2, axis=0), acceleration=3, coils=coils)
    measured.samples[0] = 0
    for found in (Reconstructor(models["reconstruction", "student"]).reconstruct(measured), zero_filled(measured)):
        assert not found.pixels[0].any()
        assert found.pixels[1].any()
    measured.samples[1] = 0
    empty = Reconstructor(models["reconstruction", "student"]).reconstruct(measured)
    assert not empty.pixels.any()
    assert empty.residual == 0


@pytest.mark.parametrize("coils", [1, 4])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_finite_are_refused(models: Models, value: float, coils: int) -> None:
    measured = scan(phantom(48, 40), acceleration=3, coils=coils)
    measured.samples[0, 0, 3, int(np.flatnonzero(measured.mask[0, 0])[0])] = value
    with pytest.raises(UnsupportedInput, match="expected finite k-space samples, got NaN or infinity"):
        Reconstructor(models["reconstruction", "student"]).reconstruct(measured)


def test_an_image_beyond_single_precision_is_refused(models: Models) -> None:
    """Equal samples are a point: its brightness is their sum over the root of their number."""
    measured = scan(phantom(48, 40))
    measured.samples[:] = 0.9 * LARGEST
    with pytest.raises(UnsupportedInput, match="expected an image within float32's range"):
        Reconstructor(models["reconstruction", "student"]).reconstruct(measured)


@pytest.mark.parametrize("unit", [1e-36, 1e20, 1e37])
def test_any_magnitude_is_super_resolved_in_its_units(models: Models, unit: float) -> None:
    resolver, coarse = SuperResolver(models["super-resolution", "student"]), phantom(32, 30)
    rescaled = (coarse.astype(np.float64) * unit).astype(np.float32)
    expected, found = (resolver.super_resolve(Images(pixels), 2).pixels for pixels in (coarse, rescaled))
    assert_allclose(found.astype(np.float64) / unit, expected, atol=1e-4 * expected.max())


def test_super_resolution_of_zeros_is_zeros_and_of_nan_is_refused(models: Models) -> None:
    resolver, coarse = SuperResolver(models["super-resolution", "student"]), phantom(32, 30).repeat(2, axis=0)
    coarse[0] = 0
    found = resolver.super_resolve(Images(coarse), 2).pixels
    assert not found[0].any()
    assert found[1].any()
    coarse[1, 5, 5] = np.nan
    with pytest.raises(UnsupportedInput, match="expected finite pixels, got NaN or infinity"):
        resolver.super_resolve(Images(coarse), 2)
