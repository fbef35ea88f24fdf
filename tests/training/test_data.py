from dataclasses import replace

import numpy as np
import pytest
import torch
from kdmri_training.data.fields import simulate_phase, simulate_sensitivities
from kdmri_training.data.simulation import Measurement, reconstruction_batch
from kdmri_training.data.views import tight_fov
from kdmri_training.data.volumes import Slices
from kdmri_training.learning.recipe import Recipe
from kdmri_training.learning.teacher import examples
from numpy.testing import assert_allclose

from kdmri.physics.coils import combine, expand
from kdmri.physics.fourier import fft2c, ifft2c

CPU = torch.device("cpu")


def tensors(batch: object) -> list[torch.Tensor]:
    return list(vars(batch).values())


def test_an_example_depends_on_seed_stage_and_step_alone(tiny: Recipe, slices: Slices) -> None:
    first, again = (examples(tiny, slices, 1, CPU)(7) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(tensors(first), tensors(again), strict=True))
    for other in (
        examples(tiny, slices, 1, CPU)(8),
        examples(tiny, slices, 2, CPU)(7),
        examples(replace(tiny, seed=tiny.seed + 1), slices, 1, CPU)(7),
    ):
        assert first.target.shape != other.target.shape or not torch.equal(first.target, other.target)


@pytest.mark.parametrize("tiny", ["reconstruction_base"], indirect=True)
@pytest.mark.parametrize("multi_coil", [0.0, 1.0])
def test_a_clean_measurement_is_that_of_its_target(tiny: Recipe, slices: Slices, multi_coil: float) -> None:
    clean = replace(tiny, data=replace(tiny.data, noise=0.0, multi_coil=multi_coil))
    batch: Measurement = examples(clean, slices, 1, CPU)(3)
    assert batch.sensitivities.shape[1] == (clean.data.coils if multi_coil else 1)
    kspace = batch.mask * fft2c(expand(batch.target, batch.sensitivities))
    assert_allclose(batch.zero_filled, combine(ifft2c(kspace), batch.sensitivities), atol=1e-4)


@pytest.mark.parametrize("tiny", ["reconstruction_base"], indirect=True)
def test_shading_is_smooth_and_leaves_phase_and_air_alone(tiny: Recipe, slices: Slices) -> None:
    plain, shaded = (
        reconstruction_batch(slices, replace(tiny.data, noise=0.0, shading=shading), np.random.default_rng(3))
        for shading in (1e-9, 0.7)
    )
    # Each example has a scale of its own, which the gradient of the logarithm does not see.
    ratio = shaded.target / plain.target
    bright = plain.target.abs() > 0.1
    assert_allclose(ratio.imag[bright], 0, atol=1e-3)
    assert bool((ratio.real[bright] > 0).all())
    assert float(ratio.real[bright].std()) > 0.05
    along = ratio.real.log().diff(dim=-1)[bright[..., 1:] & bright[..., :-1]]
    assert float(along.abs().max()) < 0.25
    assert_allclose(shaded.target[plain.target == 0].abs(), 0)


@pytest.mark.parametrize("tiny", ["reconstruction_base"], indirect=True)
def test_accelerations_span_the_recipe_and_the_centre_is_sampled(tiny: Recipe, slices: Slices) -> None:
    draw = examples(replace(tiny, data=replace(tiny.data, columns=(96,))), slices, 1, CPU)
    masks = torch.cat([draw(step).mask[:, 0, 0] for step in range(40)])
    accelerations = 1 / masks.mean(dim=1)
    assert masks[:, 48].all()
    assert accelerations.min() < 3.7
    assert accelerations.max() > 8
    assert accelerations.max() < 11


def test_by_volume_a_thin_volume_is_seen_as_often_as_a_thick_one() -> None:
    images = [np.full((2, 2), number, np.float16) for number in range(8)]
    slices, rng = Slices(images, [0] * 7 + [1]), np.random.default_rng(0)
    for by_volume, share in ((False, 1 / 8), (True, 1 / 2)):
        seen = [int(slices.draw(rng, by_volume=by_volume)[0, 0]) for _ in range(4000)]
        assert np.mean([number == 7 for number in seen]) == pytest.approx(share, abs=0.03)
        assert set(seen) == set(range(8))


@pytest.mark.parametrize("coils", [1, 4])
def test_simulated_sensitivities_are_normalised_and_smooth(coils: int) -> None:
    maps = simulate_sensitivities((40, 32), coils, np.random.default_rng(0))
    assert_allclose(maps.abs().square().sum(dim=0), 1, atol=1e-5)
    assert (maps[:, 1:] - maps[:, :-1]).abs().max() < 0.3


def test_phase_has_modulus_one() -> None:
    assert_allclose(simulate_phase((9, 12), np.random.default_rng(0)).abs(), 1, atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_a_steep_phase_turns_faster_everywhere(seed: int) -> None:
    mild, steep = (
        simulate_phase((64, 64), np.random.default_rng(seed), steepness=steepness) for steepness in (1.0, 3.0)
    )
    turns = [(phase[:, 1:] * phase[:, :-1].conj()).angle() for phase in (mild, steep)]
    assert_allclose(turns[1], 3 * turns[0], atol=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_a_closer_field_of_view_wraps_what_lies_beyond_it(seed: int) -> None:
    patient = torch.zeros(6, 100)
    patient[:, 30:70] = torch.rand(6, 40) + 0.5
    closed = tight_fov(patient, np.random.default_rng(seed))
    width = closed.shape[1]
    assert 0.85 * 40 - 1 < width < 1.15 * 40 + 1
    # Every place sees all that lies a whole number of fields of view away: a fold of the image, whole somewhere.
    folds = [torch.zeros(6, width).index_add(1, (torch.arange(100) - start) % width, patient) for start in range(width)]
    assert any(torch.equal(closed, fold) for fold in folds)


@pytest.mark.parametrize("tiny", ["reconstruction_close"], indirect=True)
def test_a_close_field_of_view_leaves_little_air(tiny: Recipe, slices: Slices) -> None:
    small = [np.pad(image, [(0, 0), (40, 40)]) for image in slices.images]
    padded = Slices(small, slices.volumes)

    def air(close: float) -> float:
        data = replace(tiny.data, close=close, noise=0.0, shading=0.0)
        seen = [reconstruction_batch(padded, data, np.random.default_rng(seed)).target.abs() for seed in range(10)]
        return float(np.mean([(image.mean(dim=-2) < 0.05 * image.mean()).float().mean() for image in seen]))

    assert air(1.0) < 0.5 * air(0.0)


@pytest.mark.parametrize("tiny", ["reconstruction_close"], indirect=True)
def test_gamma_keeps_the_order_of_brightness(tiny: Recipe, slices: Slices) -> None:
    flat = {"noise": 0.0, "shading": 0.0, "close": 0.0}
    strong = reconstruction_batch(slices, replace(tiny.data, gamma=1.0, **flat), np.random.default_rng(5)).target.abs()
    again = reconstruction_batch(slices, replace(tiny.data, gamma=1e-9, **flat), np.random.default_rng(5)).target.abs()
    for image, other in zip(strong, again, strict=True):
        order = other.flatten().argsort()
        sorted_by_other = image.flatten()[order]
        assert (sorted_by_other.diff() > -1e-4 * image.max()).all()
        assert not torch.allclose(image / image.max(), other / other.max(), atol=0.02)
