"""The comparison of students, for real, on a recipe of seconds; then its scores, gains and page."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from kdmri_training.data.volumes import load_slices, load_volume
from kdmri_training.evaluation import results
from kdmri_training.evaluation.comparison import Result, scores, scores_with_phase, volumes
from kdmri_training.evaluation.evaluate import simulate_kspace
from kdmri_training.evaluation.gains import gains, interval
from kdmri_training.evaluation.measurements import conditions, measure_volume, with_phase
from kdmri_training.learning import experiment
from kdmri_training.learning import recipe as recipes
from kdmri_training.learning import teacher as supervising
from kdmri_training.learning.experiment import HEIRS, METHODS, TITLES, networks
from kdmri_training.learning.recipe import Recipe
from kdmri_training.learning.teacher import examples
from lightning.fabric import Fabric
from numpy.testing import assert_allclose
from scipy import stats

from kdmri.bundles.location import models_folder
from kdmri.bundles.store import choose, load_all
from kdmri.phantoms import phantom
from kdmri.physics.fourier import fft2c
from kdmri.quality.metrics import psnr
from kdmri.runtime import zero_filled
from kdmri.runtime.model import load_model
from tests.training.experiments import write_data, write_recipe

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _little_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervising, "VALIDATION_BATCHES", 1)


@pytest.fixture
def fabric() -> Fabric:
    return Fabric(accelerator="cpu", devices=1)


def small(folder: Path, shipped: str = "reproduction_brain", **replaced: str) -> Recipe:
    if not (folder / "volumes").exists():
        write_data(folder)
    return recipes.load(write_recipe(folder, shipped, **replaced))


def run(recipe: Recipe, folder: Path, fabric: Fabric) -> None:
    experiment.run(recipe, recipe.experiment, folder, folder / "runs", fabric)


@pytest.mark.parametrize("shipped", ["reproduction_brain", "reproduction_super_resolution"])
def test_students_are_trained_scored_and_shown(shipped: str, tmp_path: Path, fabric: Fabric) -> None:
    recipe = small(tmp_path, shipped)
    untrained = scores_with_phase(recipe, recipe.experiment, tmp_path, tmp_path / "runs", "test", [])
    assert not list(untrained), "no teacher yet"
    run(recipe, tmp_path, fabric)
    folder = tmp_path / "results"
    served = load_model(choose(load_all(models_folder()), "reconstruction"))
    results.write([recipe], tmp_path, tmp_path / "runs", folder, "test", [served])
    with (folder / "reproduction.csv").open() as file:
        rows = list(csv.DictReader(file))
    outside = ["zero-filled", *(["served student"] if recipe.task == "reconstruction" else [])]
    assert f"({served.manifest.reference}) was trained longer" in (tmp_path / "results.md").read_text()
    count = len(networks(recipe, recipe.experiment, tmp_path / "runs")) + len(outside)
    assert len(rows) == 2 * count * len(conditions(recipe)), "two volumes for each network and for the baseline"
    assert {row["method"] for row in rows} == {"teacher", *outside, *recipe.experiment.methods}
    page = (tmp_path / "results.md").read_text()
    assert "{" not in page
    for method in recipe.experiment.methods:
        assert f"| {TITLES[method]} |" in page
    assert "2 + 2" in page, "the budget of students"
    for file in folder.glob("*.png"):
        assert f"results/{file.name}" in page
    assert len(list(folder.glob("*.png"))) == 2
    phased = folder / "reproduction_with_phase.csv"
    assert phased.exists() == ("### With phase" in page) == (recipe.task == "reconstruction")
    if phased.exists():
        with phased.open() as file:
            compared = [(row["condition"], row["method"]) for row in csv.DictReader(file)]
        wanted = [(f"{acceleration}x", method) for acceleration in (4, 8) for method in ("teacher", "served student")]
        assert compared == 2 * wanted, "two volumes"
    before = (folder / "reproduction.csv").read_text()
    results.write([recipe], tmp_path, tmp_path / "runs", folder, "test", [served])
    assert (folder / "reproduction.csv").read_text() == before


def test_images_with_phase_are_measured_as_the_served_models_scores_are() -> None:
    truth = np.concatenate([phantom(64, 48), phantom(64, 48)[:, ::-1]])
    example = with_phase(truth, 4)
    assert_allclose(example.baseline, zero_filled(simulate_kspace(truth, 4, seed=0)).pixels, atol=1e-5)
    zero, mask, coils = example.inputs
    assert torch.equal(mask[0], mask[1])
    assert zero.imag.abs().max() > 0.1
    assert coils.shape == (2, 1, 64, 48)


def test_students_begin_alike_see_the_same_and_take_as_many_steps(tmp_path: Path, fabric: Fabric) -> None:
    """With a learning rate of nothing all students are the same network: only what they learn from differs."""
    recipe = replace(small(tmp_path, repeated="[]", seeds="[]"), optimiser={"learning_rate": 0.0})
    run(recipe, tmp_path, fabric)
    _, *students = networks(recipe, recipe.experiment, tmp_path / "runs")
    loaded = [[torch.load(s / "last.pt", weights_only=True) for s in student.stages] for student in students]
    for first, second in loaded:
        assert (first["step"], second["step"]) == (recipe.steps["first"], recipe.steps["second"])
    assert {student.method for student in students} == set(METHODS)
    # Learning rate nought: the last weights are the first ones.
    teacher = torch.load(tmp_path / "runs" / recipe.run / "teacher" / "last.pt", weights_only=True)["network"]
    outer = [f"convolutions.{number}." for number in (0, recipe.teacher["convolutions"] - 1)]
    theirs = {name: value for name, value in teacher.items() if any(part in name for part in outer)}
    last = f"convolutions.{recipe.student['convolutions'] - 1}."
    inherited = {name.replace(outer[1], last): value for name, value in theirs.items()}
    plain = loaded[0][1]["network"]
    for student, (_, second) in zip(students, loaded, strict=True):
        expected = {**plain, **inherited} if student.method in HEIRS else plain
        assert all(torch.equal(second["network"][name], value) for name, value in expected.items())
    assert len(inherited) == 4 * recipe.teacher["cascades"]


def test_plain_and_distilled_students_differ_and_seeds_do(tmp_path: Path, fabric: Fabric) -> None:
    recipe = small(tmp_path, methods='["plain", "kd"]', repeated='["plain"]', seeds="[5]")
    run(recipe, tmp_path, fabric)
    _, plain, kd, other = (
        torch.load(t.weights, weights_only=True)["network"]
        for t in networks(recipe, recipe.experiment, tmp_path / "runs")
    )
    name = "cascades.0.convolutions.0.weight"
    assert not torch.equal(plain[name], kd[name])
    assert not torch.equal(plain[name], other[name])


def test_undersampled_training_data_are_those_of_the_paper(tmp_path: Path) -> None:
    recipe = small(tmp_path)
    slices = load_slices(tmp_path, "train", tmp_path / "cache", "brain")
    seen = set()
    for step in range(12):
        batch = examples(recipe, slices, 2, CPU)(step)
        assert batch.sensitivities.shape[1] == 1
        assert_allclose(batch.target.imag, 0, atol=1e-6)
        assert_allclose(fft2c(batch.zero_filled), batch.mask[:, 0] * fft2c(batch.target), atol=1e-4)
        lines = batch.mask[:, 0, 0]
        assert lines[:, 19:29].all(), "ten central lines"
        seen |= set(lines.sum(dim=1).int().tolist())
    assert seen == {12, 10}, "48 columns by 4 and by 5; by 8 no fewer than the centre"


def test_test_measurements_are_in_the_units_of_the_volume_and_alike_for_all(tmp_path: Path) -> None:
    recipe = small(tmp_path)
    file = next((write_data(tmp_path / "more") / "volumes/test/brain").glob("head0*"))
    truth = load_volume(file)
    one, again, larger = (measure_volume(recipe, volume, 4) for volume in (truth, truth, 7 * truth))
    assert all(torch.equal(a, b) for a, b in zip(one.inputs, again.inputs, strict=True))
    assert_allclose(larger.baseline, 7 * one.baseline, rtol=1e-4, atol=1e-5)
    assert_allclose(one.restore(lambda zero_filled, *_: zero_filled), one.baseline, atol=1e-6)
    finer = small(tmp_path, "reproduction_super_resolution")
    enlarged = measure_volume(finer, truth, 2)
    assert enlarged.truth.shape == enlarged.baseline.shape
    assert psnr(enlarged.truth, enlarged.baseline) > psnr(truth, measure_volume(finer, truth, 4).baseline)


def test_one_slice_in_every_is_scored(tmp_path: Path) -> None:
    recipe = small(tmp_path, every="2")
    assert [len(truth) for _, truth in volumes(recipe.experiment, tmp_path, "test")] == [2, 2]


def test_slices_are_counted_where_the_recipe_says_so(tmp_path: Path, fabric: Fabric) -> None:
    recipe = small(tmp_path, methods='["plain", "kd"]', seeds="[]", unit='"slice"')
    run(recipe, tmp_path, fabric)
    found = scores(recipe, recipe.experiment, tmp_path, tmp_path / "runs", "test")
    assert {r.slice for r in found} == {"", "0", "1", "2", "3"}
    assert {(gain.unit, gain.units) for gain in gains(found)} == {("slice", 8)}


def result(method: str, psnr: float, *, volume: str = "a", seed: int = 0) -> Result:
    return Result("brain", "4x", method, seed, volume, "", psnr, 0.9, 0.01, 0.1)


def test_gains_are_paired_by_volume_and_seed() -> None:
    entries = [
        *(result("teacher", 32.0 + level, volume=volume) for volume, level in (("a", 0), ("b", 5), ("c", -4))),
        *(result("plain", 31.0 + level, volume=volume) for volume, level in (("a", 0), ("b", 5), ("c", -4))),
        *(result("kd", 31.5 + level, volume=volume) for volume, level in (("a", 0), ("b", 5.1), ("c", -4.1))),
        *(result("plain", 30.0 + level, volume=volume, seed=1) for volume, level in (("a", 0), ("b", 5), ("c", -4))),
        *(result("kd", 30.5 + level, volume=volume, seed=1) for volume, level in (("a", 0), ("b", 5.1), ("c", -4.1))),
    ]
    (gain,) = gains(entries)
    assert (gain.units, gain.seeds) == (3, 2)
    assert gain.gain == pytest.approx(0.5, abs=1e-4)
    assert gain.teacher == pytest.approx(1.5, abs=1e-4)
    assert gain.gap_share == pytest.approx(1 / 3, abs=1e-3)
    assert gain.low < 0.5 < gain.high
    assert gain.is_significant


def test_the_interval_is_that_of_a_paired_t_test() -> None:
    differences = np.random.default_rng(0).normal(0.1, 0.2, 7)
    expected = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert interval(differences) == pytest.approx((expected.low, expected.high))
    assert interval([0.3]) == (float("-inf"), float("inf"))
