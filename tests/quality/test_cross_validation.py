from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdmri.data.evidence import Evidence
from kdmri.data.kspace import KSpace
from kdmri.phantoms import phantom, ring_of_coils, scan, smooth_phase
from kdmri.physics.acquisition import Acquisition
from kdmri.physics.sampling import calibration_region
from kdmri.quality import cross_validation
from kdmri.quality.cross_validation import FOLDS, SLICES, draw_withheld, withhold
from kdmri.runtime import Reconstructor
from kdmri.runtime.model import Model

HEAD = phantom(64, 96)


def parts(coils: int = 1, noise: float = 0.0) -> tuple[torch.Tensor, Acquisition, Acquisition]:
    """Return a true image, and its measurement in two parts: what is kept and what is withheld."""
    measured = scan(HEAD, coils=coils, acceleration=4, noise=noise)
    kept = withhold(measured)
    assert kept is not None
    assert kept.withheld is not None
    maps = ring_of_coils(coils, 64, 96)[None]
    samples = [
        Acquisition(torch.from_numpy(part.samples), torch.from_numpy(part.mask).float()[:, None], maps)
        for part in (kept, kept.withheld)
    ]
    return torch.from_numpy(HEAD) * smooth_phase(64, 96), *samples


def points(seed: int) -> np.ndarray:
    """Return a mask of points, denser in its centre, with a calibration region."""
    mask = np.random.default_rng(seed).random((48, 40)) < 0.2
    mask[20:28, 16:24] = True
    return mask


MASKS = {"lines": scan(HEAD, acceleration=4).mask[0], "points": points(0)}


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_folds_share_nothing_and_hold_all_that_was_measured_outside_the_centre(mask: np.ndarray) -> None:
    draws = np.stack([draw_withheld(mask, fold) for fold in range(FOLDS)])
    assert draws.sum(axis=0).max() == 1
    assert not (draws & ~mask).any()
    assert not draws[:, *calibration_region(mask)].any()
    sizes = draws.sum(axis=(1, 2))
    assert sizes.min() > 0
    assert abs(sizes.sum() / FOLDS - sizes).max() <= (mask.shape[0] if mask is MASKS["lines"] else 1)


@given(st.integers(0, 2**16))
def test_one_scan_always_withholds_the_same_samples(seed: int) -> None:
    mask = points(seed)
    assert (draw_withheld(mask, 1) == draw_withheld(mask.copy(), 1)).all()
    assert (draw_withheld(mask, 1) == draw_withheld(mask, 1 + FOLDS)).all()


def test_lines_are_withheld_whole() -> None:
    draw = draw_withheld(MASKS["lines"], 0)
    assert (draw == draw[:1]).all()


@pytest.mark.parametrize("coils", [1, 4])
def test_withheld_samples_are_in_no_array_that_the_reconstruction_reads(
    models: dict[tuple[str, str], Model], coils: int
) -> None:
    """Samples that are changed after they were withheld change the evidence, and not one pixel."""
    kept = withhold(scan(HEAD, coils=coils, acceleration=4))
    assert kept is not None
    assert kept.withheld is not None
    assert not kept.samples[np.broadcast_to(kept.withheld.mask[:, None], kept.samples.shape)].any()
    student = Reconstructor(models["reconstruction", "student"])
    changed = replace(kept, withheld=replace(kept.withheld, samples=3 * kept.withheld.samples))
    before, after = student.reconstruct(kept), student.reconstruct(changed)
    np.testing.assert_array_equal(before.pixels, after.pixels)
    assert before.evidence != after.evidence


@pytest.mark.parametrize("coils", [1, 4])
def test_the_true_image_predicts_withheld_samples_without_error(coils: int) -> None:
    truth, kept, withheld = parts(coils)
    found = cross_validation.total(cross_validation.evidence(truth, kept, withheld))
    assert found.prediction_error < 1e-3


def test_a_black_image_predicts_nothing() -> None:
    truth, kept, withheld = parts()
    found = cross_validation.total(cross_validation.evidence(torch.zeros_like(truth), kept, withheld))
    assert found.prediction_error == pytest.approx(1, abs=1e-2)


def test_noise_in_withheld_samples_is_no_error_of_the_prediction() -> None:
    truth, kept, withheld = parts(noise=0.02)
    found = cross_validation.total(cross_validation.evidence(truth, kept, withheld))
    uncorrected = float(withheld.misfit(truth).sum())
    assert found.error < 0.3 * uncorrected


def test_more_noise_means_a_larger_error() -> None:
    truth, *_ = parts()
    energies = [cross_validation.evidence(truth, *parts(noise=noise)[1:]) for noise in (0.0, 0.02, 0.05, 0.1)]
    errors = [cross_validation.total(found).extrapolated_error for found in energies]
    assert errors == sorted(errors)
    assert errors[0] < errors[-1]


def test_the_energy_of_unmeasured_samples_is_estimated() -> None:
    """Held against the phantom's true k-space, within a factor of two."""
    full = scan(HEAD).samples
    truth, kept, withheld = parts()
    found = cross_validation.total(cross_validation.evidence(truth, kept, withheld))
    unmeasured = float(np.square(np.abs(full[:, 0, ~MASKS["lines"]])).sum())
    assert 0.5 < found.missing / unmeasured < 2
    assert found.total == pytest.approx(float(np.square(np.abs(full)).sum()), rel=0.05)


@pytest.mark.parametrize("factor", [1e-30, 1e6])
def test_evidence_does_not_depend_on_units(models: dict[tuple[str, str], Model], factor: float) -> None:
    student = Reconstructor(models["reconstruction", "student"])
    errors = []
    for unit in (1, factor):
        measured = scan(HEAD, acceleration=6, noise=0.01)
        kept = withhold(replace(measured, samples=(measured.samples * unit).astype(np.complex64)))
        assert kept is not None
        evidence = student.reconstruct(kept).evidence
        assert evidence is not None
        errors.append((evidence.prediction_error, evidence.extrapolated_error))
    assert errors[1] == pytest.approx(errors[0], rel=1e-3)


def test_scans_with_and_without_withheld_samples_share_a_batch(models: dict[tuple[str, str], Model]) -> None:
    student, measured = Reconstructor(models["reconstruction", "student"]), scan(HEAD, acceleration=6, noise=0.01)
    kept = withhold(measured)
    assert kept is not None
    whole, reduced = student.reconstruct_each([measured, kept])
    alone = student.reconstruct(kept).evidence
    assert whole.evidence is None
    assert reduced.evidence is not None
    assert alone is not None
    assert vars(reduced.evidence) == pytest.approx(vars(alone), rel=1e-3)


def test_many_slices_are_judged_by_a_few_that_withhold_all_lines_between_them() -> None:
    measured = scan(np.repeat(HEAD, 40, axis=0), acceleration=4)
    kept = withhold(measured)
    assert kept is not None
    assert kept.withheld is not None
    assert len(kept.samples) == SLICES
    assert (kept.withheld.mask.sum(axis=0) <= 1).all()


@pytest.mark.parametrize(
    "measured",
    [scan(HEAD), KSpace(np.ones((1, 1, 16, 16), np.complex64), np.arange(256).reshape(1, 16, 16) % 16 == 8, (16, 16))],
    ids=["fully sampled", "one line"],
)
def test_scans_without_lines_to_withhold_have_no_evidence(measured: KSpace) -> None:
    assert withhold(measured) is None


def test_a_black_scan_breaks_nothing(models: dict[tuple[str, str], Model]) -> None:
    kept = withhold(scan(np.zeros_like(HEAD), acceleration=4))
    assert kept is not None
    assert Reconstructor(models["reconstruction", "student"]).reconstruct(kept).evidence is None
    assert Evidence(0, 0, 0, 0, 0).extrapolated_error == 0
