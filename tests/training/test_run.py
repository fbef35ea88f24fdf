"""The three stages, for real, on a recipe of seconds."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from kdmri_training import cli
from kdmri_training.data.volumes import Slices
from kdmri_training.learning import fit as fitting
from kdmri_training.learning import run as running
from kdmri_training.learning import teacher as supervising
from kdmri_training.learning.recipe import Recipe
from kdmri_training.publishing import export as bundles
from kdmri_training.publishing import parity
from lightning.fabric import Fabric

from kdmri.bundles import store as bundle
from kdmri.bundles.location import models_folder
from kdmri.phantoms import phantom
from kdmri.quality import no_reference as quality
from kdmri.runtime.model import load_model


@pytest.fixture
def fabric(monkeypatch: pytest.MonkeyPatch, slices: Slices) -> Fabric:
    """One CPU process; the data set is the phantom, and little of it is validated on."""
    monkeypatch.setattr(running, "load_slices", lambda *_: slices)
    monkeypatch.setattr(supervising, "VALIDATION_BATCHES", 1)
    return Fabric(accelerator="cpu", devices=1)


def weights(folder: Path, role: str) -> dict[str, torch.Tensor]:
    return running.weights(folder, role)


def test_three_stages_leave_two_networks_and_a_log(tiny: Recipe, fabric: Fabric, tmp_path: Path) -> None:
    teacher, student = running.run(tiny, tmp_path, tmp_path, models_folder(), fabric)
    log = [json.loads(line) for line in (tmp_path / tiny.run / "log.jsonl").read_text().splitlines()]
    assert list(dict.fromkeys(entry["stage"] for entry in log)) == ["teacher", "attention", "student"]
    for role, network in (("teacher", teacher), ("student", student)):
        for name, value in weights(tmp_path / tiny.run, role).items():
            torch.testing.assert_close(network.state_dict()[name], value)


@pytest.mark.parametrize("tiny", ["reconstruction_base"], indirect=True)
def test_a_student_may_learn_from_the_truth_before_it_learns_from_its_teacher(
    tiny: Recipe, fabric: Fabric, slices: Slices, tmp_path: Path
) -> None:
    recipe = replace(tiny, steps={"teacher": 0, "plain": 3, "attention": 0, "student": 2})
    running.run(recipe, tmp_path, tmp_path, models_folder(), fabric)
    log = [json.loads(line) for line in (tmp_path / tiny.run / "log.jsonl").read_text().splitlines()]
    assert list(dict.fromkeys(entry["stage"] for entry in log)) == ["plain", "student"]


@pytest.mark.parametrize("tiny", ["reconstruction_base"], indirect=True)
def test_a_student_goes_on_from_one_that_had_no_teacher(
    tiny: Recipe, fabric: Fabric, slices: Slices, tmp_path: Path
) -> None:
    first = replace(tiny, steps={"teacher": 0, "plain": 3, "attention": 0, "student": 0})
    _, plain = running.run(first, tmp_path, tmp_path, models_folder(), fabric)
    idle = {"teacher": 0, "attention": 0, "student": 0}
    second = replace(tiny, version="9", start={"student": first.run}, steps=idle)
    _, student = running.run(second, tmp_path, tmp_path, models_folder(), fabric)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(student.state_dict()[name], value)


@pytest.mark.parametrize("tiny", ["reconstruction_base"], indirect=True)
def test_a_student_grows_by_cascades(tiny: Recipe, fabric: Fabric, tmp_path: Path) -> None:
    running.run(tiny, tmp_path, tmp_path, models_folder(), fabric)
    idle = {"teacher": 0, "attention": 0, "student": 0}
    size = {**tiny.student, "cascades": 4}
    larger = replace(tiny, version="9", start={"student": tiny.run}, steps=idle, student=size)
    _, student = running.run(larger, tmp_path, tmp_path, models_folder(), fabric)
    assert len(student.cascades) == 4
    for name, value in weights(tmp_path / tiny.run, "student").items():
        torch.testing.assert_close(student.state_dict()[name], value)


def test_a_run_that_was_stopped_ends_as_if_it_had_not_been(
    tiny: Recipe, fabric: Fabric, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running.run(tiny, tmp_path, tmp_path / "whole", models_folder(), fabric)
    monkeypatch.setattr(fitting, "CHECKPOINT_SECONDS", -1)
    backward, calls = Fabric.backward, []

    def killed(self: Fabric, *arguments: object, **options: object) -> None:
        calls.append(1)
        if len(calls) == 9:
            raise KeyboardInterrupt
        backward(self, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Fabric, "backward", killed)
        with pytest.raises(KeyboardInterrupt):
            running.run(tiny, tmp_path, tmp_path / "stopped", models_folder(), fabric)
    running.run(tiny, tmp_path, tmp_path / "stopped", models_folder(), fabric)
    for role in ("teacher", "student"):
        whole, resumed = (weights(tmp_path / place / tiny.run, role) for place in ("whole", "stopped"))
        assert all(torch.allclose(whole[name], resumed[name], atol=1e-6) for name in whole)


def test_a_run_goes_on_from_another(tiny: Recipe, fabric: Fabric, tmp_path: Path) -> None:
    running.run(tiny, tmp_path, tmp_path, models_folder(), fabric)
    onward = replace(
        tiny,
        version="9.0.0",
        start={"teacher": tiny.run, "student": tiny.run},
        steps={"teacher": 1, "attention": 0, "student": 1},
        optimiser={"learning_rate": 0.0},
    )
    running.run(onward, tmp_path, tmp_path, models_folder(), fabric)
    for role in ("teacher", "student"):
        before, after = (weights(tmp_path / recipe.run, role) for recipe in (tiny, onward))
        assert all(torch.equal(before[name], after[name]) for name in before)
    assert not (tmp_path / onward.run / "attention").exists()


@pytest.mark.parametrize(
    ("recipe", "roles"),
    [
        ("reconstruction_base", ["teacher", "student"]),
        ("reconstruction", ["teacher"]),
        ("reconstruction_student", ["student"]),
        ("reconstruction_close", ["student"]),
        ("reconstruction_teacher", ["teacher"]),
        ("super_resolution_shorter", ["student"]),
    ],
)
def test_what_a_recipe_trained_is_exported(recipe: str, roles: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A student that learned from the truth alone, too."""
    exported: list[str] = []

    def export(wanted: Recipe, role: str, *folders: Path) -> Any:
        exported.append(role)
        return SimpleNamespace(manifest=SimpleNamespace(reference=f"{wanted.name}-{role}"), folder=folders[-1])

    monkeypatch.setattr(bundles, "export", export)
    cli.export(Path(recipe), Path("data"))
    assert exported == roles


def test_an_export_is_a_bundle_that_answers_as_its_network(
    tiny: Recipe, fabric: Fabric, slices: Slices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running.run(tiny, tmp_path, tmp_path, models_folder(), fabric)
    monkeypatch.setattr(bundles, "evaluate", lambda *_: [])
    monkeypatch.setattr(bundles, "cpu_supports", lambda _: False)
    monkeypatch.setattr(bundles, "load_slices", lambda *_: slices)
    monkeypatch.setattr(parity, "RECONSTRUCTION_SHAPES", ((1, 96, 80), (3, 61, 73)))
    volume = tmp_path / "volumes" / "test" / "brain" / "phantom.nii.gz"
    volume.parent.mkdir(parents=True)
    nib.Nifti1Image(phantom(96, 80)[0][..., None].repeat(2, axis=2), np.eye(4)).to_filename(volume)
    bundles.export(tiny, "teacher", tmp_path, tmp_path, tmp_path / "models")
    written = bundles.export(tiny, "student", tmp_path, tmp_path, tmp_path / "models")
    found = bundle.load(written.folder)
    assert found.manifest.parity
    assert max(found.manifest.parity.values()) <= 1e-4
    assert found.manifest.distilled_from == f"{tiny.name}-teacher@{tiny.version}"
    assert load_model(found).denoisers
    for name in ("intensity", "contrast"):
        low, high = quality.ranges(found.manifest)[name]
        assert 0 < low <= high
    conditions = ["4x", "8x"] if tiny.task == "reconstruction" else ["2x", "4x"]
    assert list(found.manifest.agreement) == conditions
    assert all(figures["psnr"] > 0 and figures["ssim"] <= 1 for figures in found.manifest.agreement.values())
    card = (written.folder / "CARD.md").read_text()
    assert "Not for" in card
    assert f"Agreement with {tiny.name}-teacher@{tiny.version}" in card
    assert "When the service warns" in card
    assert "CC-BY" in card
    network = tiny.network("student").eval()
    with torch.no_grad():
        for value in network.parameters():
            value.normal_(std=0.05)
    assert max(parity.check_parity(network, load_model(found)).values()) > 1e-4, "parity can fail"
