import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from kdmri.physics.acquisition import Acquisition
from kdmri.physics.coils import combine, expand
from kdmri.physics.consistency import ITERATIONS, DataConsistency, fft_order
from kdmri.physics.fourier import fft2c
from tests.laws.adjointness import assert_adjoint, draw

ONE = torch.ones(())


def noise(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(seed))


def unit_maps(coils: int, shape: tuple[int, int], seed: int) -> torch.Tensor:
    """Sum of squares 1; one coil sees all alike (DataConsistency)."""
    maps = noise(1, coils, *shape, seed=seed) if coils > 1 else torch.ones(1, 1, *shape, dtype=torch.complex64)
    return maps / torch.linalg.vector_norm(maps, dim=1, keepdim=True)


def consistent(
    image: torch.Tensor, kspace: torch.Tensor, mask: torch.Tensor, maps: torch.Tensor, step: torch.Tensor
) -> torch.Tensor:
    """A step towards centred k-space."""
    measured = Acquisition(kspace, mask, maps)
    return DataConsistency()(image, measured.zero_filled, measured.pattern, maps, step)


def pattern(shape: tuple[int, int], seed: int) -> torch.Tensor:
    """Random points or, for an odd seed, random whole lines."""
    drawn = (1, shape[1]) if seed % 2 else shape
    points = torch.rand(1, 1, *drawn, generator=torch.Generator().manual_seed(seed)) < 0.4
    return points.float().expand(-1, -1, *shape).contiguous()


@given(st.tuples(st.integers(3, 20), st.integers(3, 20)), st.integers(0, 99))
def test_one_coil_and_full_step_replace_what_was_measured(shape: tuple[int, int], seed: int) -> None:
    mask, maps = pattern(shape, seed), torch.ones(1, 1, *shape, dtype=torch.complex64)
    kspace, image = mask * noise(1, 1, *shape, seed=seed), noise(1, *shape, seed=seed + 1)
    answer = fft2c(consistent(image, kspace, mask, maps, ONE))
    kept = mask[:, 0].bool()
    assert_allclose(answer[kept], kspace[:, 0][kept], atol=1e-5)
    assert_allclose(answer[~kept], fft2c(image)[~kept], atol=1e-5)


@given(st.integers(1, 5), st.floats(0, 1), st.integers(0, 99))
def test_a_consistent_image_stays(coils: int, step: float, seed: int) -> None:
    """In double precision: what rounding leaves of nothing is still something to conjugate gradients."""
    shape = (12, 9)
    found = pattern(shape, seed), unit_maps(coils, shape, seed), noise(1, *shape, seed=seed)
    mask, maps, image = found[0].double(), *(array.to(torch.complex128) for array in found[1:])
    kspace = Acquisition.simulate(image, mask, maps).samples
    assert_allclose(consistent(image, kspace, mask, maps, torch.tensor(step)), image, atol=1e-8)


@given(st.floats(0, 1), st.integers(0, 99))
def test_one_coil_takes_the_gradient_step_of_the_forward_operator(step: float, seed: int) -> None:
    shape = (10, 11)
    mask, maps, image = pattern(shape, seed), unit_maps(1, shape, seed), noise(1, *shape, seed=seed)
    kspace = mask * noise(1, 1, *shape, seed=seed + 1)
    measured = Acquisition(kspace, mask, maps)
    expected = image + step * measured.adjoint(kspace - measured.forward(image))
    assert_allclose(consistent(image, kspace, mask, maps, torch.tensor(step)), expected, atol=1e-5)


@given(st.integers(2, 6), st.integers(0, 99))
def test_several_coils_are_solved_by_least_squares(coils: int, seed: int) -> None:
    """As many unknowns as iterations: conjugate gradients are exact, and agree with a dense solver."""
    shape = (1, ITERATIONS)
    maps, image = unit_maps(coils, shape, seed), noise(1, *shape, seed=seed)
    mask = torch.tensor([1.0, 0, 1])[None, None, None]
    kspace = mask * noise(1, coils, *shape, seed=seed + 1)
    basis = torch.eye(ITERATIONS, dtype=torch.complex64)[:, None, :]
    system = Acquisition(kspace, mask, maps).forward(basis).flatten(1).T
    change = torch.linalg.pinv(system) @ (kspace.flatten() - system @ image.flatten())
    answer = consistent(image, kspace, mask, maps, ONE)
    residuals = (torch.linalg.vector_norm(kspace.flatten() - system @ x.flatten()) for x in (answer, image + change))
    assert_allclose(*residuals, atol=2e-2)


@given(st.integers(2, 6), st.integers(0, 99))
def test_an_image_comes_closer_to_its_measurement(coils: int, seed: int) -> None:
    shape = (12, 10)
    mask, maps, image = pattern(shape, seed), unit_maps(coils, shape, seed), noise(1, *shape, seed=seed)
    kspace = mask * noise(1, coils, *shape, seed=seed + 1)
    answer = consistent(image, kspace, mask, maps, ONE)
    before, after = map(Acquisition(kspace, mask, maps).misfit, (image, answer))
    assert after < before


@given(st.integers(1, 5), st.integers(0, 99))
def test_expand_and_combine_are_adjoint(coils: int, seed: int) -> None:
    maps, image = unit_maps(coils, (7, 8), seed).to(torch.complex128), draw(1, 7, 8, seed=seed)
    coil_images = draw(1, coils, 7, 8, seed=seed + 1)
    assert_adjoint(lambda x: expand(x, maps), lambda y: combine(y, maps), domain=image, range_=coil_images)
    assert_allclose(combine(expand(image, maps), maps), image, atol=1e-5)


@pytest.mark.parametrize("seed", [2, 3])
@pytest.mark.parametrize("coils", [1, 3])
def test_torchscript_answers_the_same(seed: int, coils: int) -> None:
    shape = (9, 14)
    image, zero_filled = noise(1, *shape, seed=0), noise(1, *shape, seed=1)
    arguments = image, zero_filled, fft_order(pattern(shape, seed)), unit_maps(coils, shape, 3), ONE
    assert_allclose(torch.jit.script(DataConsistency())(*arguments), DataConsistency()(*arguments), atol=1e-6)
