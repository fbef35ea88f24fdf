import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from kdmri.phantoms import phantom, ring_of_coils, scan
from kdmri.physics.acquisition import Acquisition, power
from kdmri.physics.coils import combine, expand
from kdmri.physics.consistency import fft_order, normal
from kdmri.physics.fourier import fft2c, ifft2c
from kdmri.physics.scaling import intensity_scale
from tests.laws.adjointness import assert_adjoint, draw

SHAPES = st.tuples(st.integers(2, 16), st.integers(2, 16))
COILS, BATCH, SEEDS = st.integers(1, 4), st.integers(1, 3), st.integers(0, 99)


def acquisition(shape: tuple[int, int], coils: int, batch: int, seed: int) -> Acquisition:
    """Random samples, points or (for an odd seed) lines, and unit sensitivities, in double precision."""
    drawn = (1, shape[1]) if seed % 2 else shape
    points = torch.rand(1, 1, *drawn, generator=torch.Generator().manual_seed(seed)) < 0.5
    mask = points.double().expand(-1, -1, *shape).contiguous()
    maps = draw(1, coils, *shape, seed=seed) if coils > 1 else torch.ones(1, 1, *shape, dtype=torch.complex128)
    maps = maps / torch.linalg.vector_norm(maps, dim=1, keepdim=True)
    return Acquisition(mask * draw(batch, coils, *shape, seed=seed + 1), mask, maps)


@given(SHAPES, COILS, BATCH, SEEDS)
def test_adjoint_is_the_adjoint_of_forward(shape: tuple[int, int], coils: int, batch: int, seed: int) -> None:
    measured = acquisition(shape, coils, batch, seed)
    image, samples = draw(batch, *shape, seed=seed + 2), draw(batch, coils, *shape, seed=seed + 3)
    assert_adjoint(measured.forward, measured.adjoint, domain=image, range_=samples)


@given(SHAPES, COILS, BATCH, SEEDS)
def test_normal_is_its_own_adjoint_and_the_product_of_both(
    shape: tuple[int, int], coils: int, batch: int, seed: int
) -> None:
    measured = acquisition(shape, coils, batch, seed)
    image, other = draw(batch, *shape, seed=seed + 2), draw(batch, *shape, seed=seed + 3)
    assert_adjoint(measured.normal, measured.normal, domain=image, range_=other)
    assert_allclose(measured.normal(image), measured.adjoint(measured.forward(image)), atol=1e-10)


@given(SHAPES, COILS, BATCH, SEEDS)
def test_operators_are_those_of_the_equation(shape: tuple[int, int], coils: int, batch: int, seed: int) -> None:
    """A = M F S written out, against the operators that go coil after coil."""
    measured, image = acquisition(shape, coils, batch, seed), draw(batch, *shape, seed=seed + 2)
    mask, maps = measured.mask, measured.sensitivities
    seen = mask * fft2c(expand(image, maps))
    assert_allclose(measured.forward(image), seen, atol=1e-10)
    assert_allclose(measured.zero_filled, combine(ifft2c(measured.samples), maps), atol=1e-10)
    assert_allclose(measured.adjoint(measured.samples), measured.zero_filled, atol=1e-10)
    assert_allclose(measured.normal(image), normal(image, fft_order(mask), maps), atol=1e-10)
    assert_allclose(measured.misfit(image), power(seen - measured.samples), rtol=1e-5)


@given(COILS, SEEDS)
def test_what_was_simulated_without_noise_fits(coils: int, seed: int) -> None:
    image, drawn = draw(1, 8, 9, seed=seed), acquisition((8, 9), coils, 1, seed)
    measured = Acquisition.simulate(image, drawn.mask, drawn.sensitivities)
    assert_allclose(measured.misfit(image), 0, atol=1e-20)
    noise = draw(1, coils, 8, 9, seed=seed + 1)
    noisy = Acquisition.simulate(image, drawn.mask, drawn.sensitivities, noise)
    assert_allclose(noisy.misfit(image), power(drawn.mask * noise), rtol=1e-5)


def test_the_scale_is_that_of_the_zero_filled_image_and_both_are_computed_once() -> None:
    kspace = scan(phantom(32, 24), coils=3, acceleration=2)
    mask = torch.tensor(kspace.mask).float()[:, None]
    measured = Acquisition(torch.from_numpy(kspace.samples), mask, ring_of_coils(3, 32, 24)[None])
    assert_allclose(measured.scale, intensity_scale(measured.zero_filled))
    assert measured.zero_filled is measured.zero_filled
    assert measured.scale is measured.scale


@pytest.mark.parametrize("missing", [None, 0, 15])
def test_a_measurement_is_complete_if_nothing_is_missing(missing: int | None) -> None:
    mask = np.ones((1, 1, 16, 16), np.float32)
    if missing is not None:
        mask[..., missing] = 0
    ones = torch.ones(1, 1, 16, 16, dtype=torch.complex64)
    assert Acquisition(ones, torch.from_numpy(mask), ones).is_complete is (missing is None)


def test_samples_and_sensitivities_move_to_a_device_and_the_mask_stays() -> None:
    moved = acquisition((4, 4), 2, 1, 0).to(torch.device("meta"))
    assert {moved.samples.device.type, moved.sensitivities.device.type, moved.pattern.device.type} == {"meta"}
    assert moved.mask.device.type == "cpu"
    assert moved.forward(moved.zero_filled).device.type == "meta"
