import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from kdmri.data.kspace import KSpace
from kdmri.phantoms import phantom, ring_of_coils, scan
from kdmri.physics import sparse_fit as sparsity
from kdmri.physics.acquisition import Acquisition
from kdmri.physics.sparse_fit import KNEE, LEAST, LEVELS, PER_NOISE, TRUSTED, _denoise, _haar, _unhaar, sparse_fit
from tests.laws.adjointness import assert_adjoint

SHAPES = st.tuples(st.integers(1, 40), st.integers(1, 40))
COILS = 6


def noise(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(seed))


def acquisition(measured: KSpace) -> Acquisition:
    """The measurement with the true sensitivities."""
    mask = torch.from_numpy(measured.mask.astype(np.float32)).unsqueeze(1)
    return Acquisition(torch.from_numpy(measured.samples), mask, ring_of_coils(*measured.shape[1:])[None])


def fitted(measured: KSpace, deviation: float, guide: torch.Tensor | None = None) -> torch.Tensor:
    noise = torch.full((len(measured.samples),), deviation)
    return sparse_fit(acquisition(measured), noise=noise, guide=guide)


def wavelets(image: torch.Tensor) -> list[torch.Tensor]:
    """All differences of all scales in the one shift that starts at the corner."""
    found = []
    for _ in range(LEVELS):
        image, *details = _haar(image)
        found += details
    return found


def cost(measured: KSpace, image: torch.Tensor, threshold: float) -> float:
    """What the fit makes small, with the wavelets of one shift."""
    misfit = acquisition(measured).misfit(image).sum()
    return float(misfit / 2 + threshold * sum(w.abs().sum() for w in wavelets(image)))


@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 99))
def test_wavelets_are_an_orthonormal_change_of_basis(rows: int, columns: int, seed: int) -> None:
    image = noise(1, 2 * rows, 2 * columns, seed=seed)
    parts = _haar(image)
    other = noise(1, 2 * rows, 2 * columns, seed=seed + 1)
    assert_adjoint(
        lambda x: torch.stack(_haar(x)),
        lambda y: _unhaar(*y),
        domain=other.to(torch.complex128),
        range_=torch.stack(parts).to(torch.complex128),
    )
    assert_allclose(_unhaar(*parts), image, atol=1e-5)
    assert_allclose(sum(p.abs().square().sum() for p in parts), image.abs().square().sum(), rtol=1e-4)


@given(SHAPES, st.integers(0, 40), st.integers(0, 99))
def test_without_a_threshold_nothing_changes(shape: tuple[int, int], turn: int, seed: int) -> None:
    image = noise(2, *shape, seed=seed)
    nothing, knee = torch.zeros(2, 1, 1), torch.full((2, 1, 1), KNEE)
    assert_allclose(_denoise(image, image, nothing, knee, turn=turn), image, atol=1e-5)


@given(st.floats(0.01, 2), st.floats(0.01, 9), st.integers(0, 99))
def test_what_a_guide_shows_is_shrunk_less(threshold: float, knee: float, seed: int) -> None:
    """Exactly: soft thresholds t k / (k + |guide's wavelet|)."""
    image, guide = noise(1, 16, 16, seed=seed), noise(1, 16, 16, seed=seed + 1)
    turn = 16  # no shift
    given = (torch.full((1, 1, 1), number) for number in (threshold, knee))
    found = wavelets(_denoise(image, guide, *given, turn=turn))
    for after, before, shown in zip(found, wavelets(image), wavelets(guide), strict=True):
        kept = (before.abs() - threshold * knee / (knee + shown.abs())).clamp(min=0)
        assert_allclose(after, kept * before / before.abs(), atol=1e-5)


@pytest.mark.parametrize(("acceleration", "share"), [(2, 0.03), (3, 0.12)])
@pytest.mark.parametrize("shape", [(64, 64), (61, 75)])
def test_a_scan_without_noise_is_found(shape: tuple[int, int], acceleration: float, share: float) -> None:
    """With true sensitivities; the zero-filled image is 0.3 and 0.4 off."""
    image = phantom(*shape)
    found = fitted(scan(image, coils=COILS, acceleration=acceleration), 0).abs().numpy()
    assert np.linalg.norm(found - image) < share * np.linalg.norm(image)


def test_the_sum_of_misfit_and_wavelets_comes_down() -> None:
    """Below that of the truth, of the zero-filled image and of nothing; the shifts take turns, hence a little room."""
    measured, deviation = scan(phantom(64, 64), coils=COILS, acceleration=3, noise=0.02), 0.02
    full = scan(phantom(64, 64), coils=COILS)
    truth, zero_filled = acquisition(full).zero_filled, acquisition(measured).zero_filled
    least = cost(measured, fitted(measured, deviation), PER_NOISE * deviation)
    assert least < 1.02 * min(cost(measured, image, PER_NOISE * deviation) for image in (truth, zero_filled, 0 * truth))


def test_thresholds_that_shrink_come_closer_in_as_many_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    image = phantom(64, 64)
    measured = scan(image, coils=COILS, acceleration=4)
    errors = []
    for beginning in (sparsity.BEGINNING, 0):
        monkeypatch.setattr(sparsity, "BEGINNING", beginning)
        errors.append(np.linalg.norm(fitted(measured, 0).abs().numpy() - image))
    assert errors[0] < 0.9 * errors[1], errors


def test_more_noise_leaves_fewer_wavelets_and_more_unexplained() -> None:
    measured = scan(phantom(64, 64), coils=COILS, acceleration=2, noise=0.03)
    size, misfit = zip(
        *((cost(measured, x, 1), cost(measured, x, 0)) for x in map(fitted, [measured] * 3, [0, 0.005, 0.02])),
        strict=True,
    )
    assert sorted(size, reverse=True) == list(size)
    assert sorted(misfit) == list(misfit)


def test_a_truthful_guide_helps() -> None:
    measured = scan(phantom(64, 64), coils=COILS, acceleration=4, noise=0.03)
    truth = torch.from_numpy(phantom(64, 64)).to(torch.complex64)
    errors = [np.linalg.norm(fitted(measured, 0.03, guide).abs() - truth.abs()) for guide in (truth, None)]
    assert errors[0] < errors[1]


@pytest.mark.parametrize("noise", [0, 0.02])
def test_rounds_find_what_is_folded_onto_the_centre(noise: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every 3rd line and no more: rounds that guide each other come closer than as many steps in one."""
    full = scan(phantom(64, 64), coils=8, noise=noise)
    mask = np.zeros_like(full.mask)
    mask[..., 1::3] = True
    measured = KSpace(full.samples * mask[:, np.newaxis], mask, full.image_shape)
    errors = []
    for rounds in (sparsity.ROUNDS_WITHOUT_CENTRE, (sum(sparsity.ROUNDS_WITHOUT_CENTRE),)):
        monkeypatch.setattr(sparsity, "ROUNDS_WITHOUT_CENTRE", rounds)
        errors.append(np.linalg.norm(fitted(measured, noise).abs().numpy() - phantom(64, 64)))
    assert errors[0] < 0.8 * errors[1]


def test_slices_do_not_see_each_other() -> None:
    slices = [scan(phantom(48, 40), coils=COILS, acceleration=2, noise=n).samples for n in (0.0, 0.1)]
    mask = scan(phantom(48, 40), coils=COILS, acceleration=2).mask
    deviations = torch.tensor([LEAST, 0.1])
    both = KSpace(np.concatenate(slices), mask, (48, 40))
    together = sparse_fit(acquisition(both), noise=deviations)
    for number in range(2):
        part = slice(number, number + 1)
        alone = sparse_fit(acquisition(both.select(part)), noise=deviations[part])
        assert_allclose(together[part], alone, atol=1e-5)


@pytest.mark.parametrize("deviation", [0.01, 0.3])
def test_a_guide_is_trusted_as_far_as_there_is_little_noise(deviation: float) -> None:
    """A guide of noise alone: where there is much noise it changes next to nothing, where there is little it does."""
    measured = scan(phantom(64, 64), coils=COILS, acceleration=4, noise=deviation)
    alone, misled = fitted(measured, deviation), fitted(measured, deviation, guide=noise(1, 64, 64, seed=5))
    change = torch.linalg.vector_norm(misled - alone) / torch.linalg.vector_norm(alone)
    assert change < 0.01 if deviation > TRUSTED else change > 0.03, change
