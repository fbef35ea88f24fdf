import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdmri.bundles.manifest import Manifest
from kdmri.bundles.store import Bundle
from kdmri.data.images import Images
from kdmri.phantoms import phantom, scan
from kdmri.physics import sampling
from kdmri.physics.resampling import upsample
from kdmri.quality import no_reference as quality
from kdmri.quality.no_reference import FAR, RESIDUAL, TOLERANCE, Quality
from kdmri.runtime import Reconstructor, SuperResolver, zero_filled
from kdmri.runtime.model import Model

TRAINED = {
    "accelerations": [3.0, 9.0],
    "columns": [160, 320],
    "noise": 0.08,
    "intensity": [0.05, 0.5],
    "contrast": [0.684, 3.74],
}
USUAL = Quality(residual=0, noise=0.01, intensity=0.2, contrast=1.5, acceleration=4, columns=256)


def manifest(**trained_on: object) -> Manifest:
    return SimpleNamespace(task="reconstruction", trained_on={**TRAINED, **trained_on})  # type: ignore[return-value]


def images(pixels: np.ndarray) -> Images:
    return Images(pixels.astype(np.float32), residual=0.0)


FACTORS = [1e-30, 1e-6, 1e6, 1e35]


@pytest.mark.parametrize("factor", FACTORS)
def test_no_figure_of_super_resolution_depends_on_the_units(
    models: dict[tuple[str, str], Model], factor: float
) -> None:
    student = SuperResolver(models["super-resolution", "student"])
    noisy = phantom(32, 32) + np.random.default_rng(0).normal(0, 0.02, (1, 32, 32))
    plain, other = (
        quality.of_super_resolution(student.super_resolve(source, 2), source, 2)
        for source in (images(noisy), images(noisy * factor))
    )
    known = [name for name, value in vars(plain).items() if value is not None]
    before, after = ([vars(found)[name] for name in known] for found in (plain, other))
    assert after == pytest.approx(before, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("factor", FACTORS)
def test_no_figure_depends_on_the_units(models: dict[tuple[str, str], Model], factor: float) -> None:
    student = Reconstructor(models["reconstruction", "student"])
    measured = scan(phantom(64, 64), acceleration=4, noise=0.02)
    scaled = replace(measured, samples=(measured.samples * factor).astype(np.complex64))
    plain, other = (quality.of_reconstruction(student.reconstruct(k), k) for k in (measured, scaled))
    known = [name for name, value in vars(plain).items() if value is not None]
    before, after = ([vars(found)[name] for name in known] for found in (plain, other))
    assert after == pytest.approx(before, rel=1e-3, abs=1e-5)


def test_measured_samples_that_survive_leave_no_residual(models: dict[tuple[str, str], Model]) -> None:
    measured = scan(phantom(64, 64), acceleration=4)
    answer = Reconstructor(models["reconstruction", "student"]).reconstruct(measured)
    assert quality.of_reconstruction(answer, measured).residual < 1e-4


def test_a_residual_shows_what_was_changed(models: dict[tuple[str, str], Model]) -> None:
    """Super-resolution that keeps its input has none; a tenth more brightness departs by a tenth."""
    source = images(phantom(32, 32))
    for finer in (
        SuperResolver(models["super-resolution", "student"]).super_resolve(source, 2),
        images(upsample(torch.from_numpy(source.pixels), 2).numpy()),
    ):
        assert quality.of_super_resolution(finer, source, 2).residual < 1e-4
        brighter = images(1.1 * finer.pixels)
        assert quality.of_super_resolution(brighter, source, 2).residual == pytest.approx(0.1, rel=1e-3)


def test_black_scans_are_as_foreign_as_can_be_and_break_nothing() -> None:
    black = scan(np.zeros((2, 32, 32), np.float32), acceleration=2)
    found = quality.of_reconstruction(zero_filled(black), black)
    assert (found.noise, found.intensity, found.contrast) == (0, 0, 0)
    assert quality.distances(found, manifest())["intensity"] == FAR
    empty = images(np.zeros((1, 16, 16)))
    assert quality.of_super_resolution(images(np.zeros((1, 32, 32))), empty, 2).residual == 0


@given(st.floats(1e-3, 1e3))
def test_distance_is_nothing_inside_and_octaves_outside(acceleration: float) -> None:
    found = quality.distances(replace(USUAL, acceleration=acceleration), manifest())["acceleration"]
    expected = max(math.log2(acceleration / 9), math.log2(3 / acceleration), 0)
    assert found == pytest.approx(min(expected, FAR))


def test_a_single_missing_line_is_not_called_fully_sampled() -> None:
    mask = np.ones((1, 320, 320), bool)
    mask[..., 7] = False
    nearly = replace(USUAL, acceleration=sampling.acceleration(mask))
    assert quality.warnings(nearly, manifest()) == []


def test_what_is_usual_is_not_warned_of() -> None:
    assert quality.warnings(USUAL, manifest()) == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"acceleration": 16.0}, "acceleration 16 is outside the trained range 3 to 9"),
        ({"acceleration": 1.0}, "k-space is fully sampled: the answer is the plain image"),
        ({"columns": 64}, "columns 64 is outside the trained range 160 to 320"),
        ({"noise": 0.2}, "noise 0.2 is outside the trained range 0 to 0.08"),
        ({"intensity": 0.01}, "intensity 0.01 is outside the trained range 0.05 to 0.5"),
        ({"contrast": 10.0}, "contrast 10 is outside the trained range 0.684 to 3.74"),
        ({"residual": 0.5}, "50% of what was measured is not in the answer, usual is at most 25%"),
    ],
)
def test_every_figure_has_its_warning(change: dict[str, float], sentence: str) -> None:
    assert quality.warnings(replace(USUAL, **change), manifest()) == [sentence]


def test_a_warning_begins_beyond_the_tolerance_and_less_acceleration_is_no_worry() -> None:
    edge = 9 * 2**TOLERANCE
    assert quality.warnings(replace(USUAL, acceleration=edge * 0.999), manifest()) == []
    assert len(quality.warnings(replace(USUAL, acceleration=edge * 1.001), manifest())) == 1
    assert quality.warnings(replace(USUAL, acceleration=1.5), manifest()) == []


def test_cards_state_what_is_warned_of_and_what_drift_is_told_by(bundles: list[Bundle]) -> None:
    for manifest, card in ((bundle.manifest, (bundle.folder / "CARD.md").read_text()) for bundle in bundles):
        for name, (low, high) in quality.ranges(manifest).items():
            assert f"- {name}: {low:g} to {high:g}" in card
        assert f"{TOLERANCE} octaves" in card
        assert f"more than {float(manifest.trained_on.get('residual', RESIDUAL)):.0%} of what was measured" in card
        for condition, found in manifest.agreement.items():
            assert f"| {condition} | {found['psnr']:.2f} | {found['ssim']:.4f} |" in card


def test_what_a_manifest_says_of_its_training_goes_first() -> None:
    stated = manifest(contrast=[5, 20], residual=2 * RESIDUAL)
    assert quality.warnings(replace(USUAL, contrast=10, residual=1.5 * RESIDUAL), stated) == []


def test_images_have_no_acceleration_to_be_judged(models: dict[tuple[str, str], Model]) -> None:
    model = models["super-resolution", "student"]
    source = images(phantom(48, 48))
    found = quality.of_super_resolution(SuperResolver(model).super_resolve(source, 2), source, 2)
    assert quality.distances(found, model.manifest).keys() == {"intensity", "contrast"}
