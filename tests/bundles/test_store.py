import json
import shutil
from pathlib import Path

import pytest

from kdmri.bundles.manifest import MANIFEST
from kdmri.bundles.store import Bundle, choose, load, load_all
from kdmri.errors import CorruptBundle, InvalidRequest, UnknownModel


@pytest.fixture
def copied(bundles: list[Bundle], tmp_path: Path) -> Path:
    source = bundles[0].folder
    target = tmp_path / source.parent.name / source.name
    shutil.copytree(source, target)
    return target


def test_shipped_bundles_are_whole(bundles: list[Bundle]) -> None:
    pairs = {(b.manifest.task, b.manifest.role) for b in bundles}
    assert pairs == {(t, r) for t in ("reconstruction", "super-resolution") for r in ("teacher", "student")}
    for bundle in bundles:
        assert max(bundle.manifest.parity.values()) <= 1e-4
        assert bundle.manifest.scores
        assert (bundle.folder / "CARD.md").read_text().startswith(f"# {bundle.manifest.reference}")


def test_students_name_their_teachers(bundles: list[Bundle]) -> None:
    there = {b.manifest.reference for b in bundles}
    for bundle in bundles:
        student = bundle.manifest.role == "student"
        assert (bundle.manifest.distilled_from in there) is student


def test_students_state_how_close_they_come_to_their_teachers(bundles: list[Bundle]) -> None:
    conditions = {"reconstruction": ["4x", "8x"], "super-resolution": ["2x", "4x"]}
    for manifest in (bundle.manifest for bundle in bundles):
        assert list(manifest.agreement) == (conditions[manifest.task] if manifest.role == "student" else [])
        assert all(figures["psnr"] > 20 and 0.8 < figures["ssim"] <= 1 for figures in manifest.agreement.values())


def test_a_changed_file_is_refused(copied: Path) -> None:
    with (copied / "cascade_1.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(CorruptBundle, match=r"expected cascade_1\.onnx with SHA-256"):
        load(copied)


def test_a_missing_file_is_refused(copied: Path) -> None:
    (copied / "data_consistency.pt").unlink()
    with pytest.raises(CorruptBundle, match=r"expected the file data_consistency\.pt, found none"):
        load(copied)


@pytest.mark.parametrize("name", ["cascade_1.onnx.data", "extra.pt", "code"])
def test_a_file_that_is_not_listed_is_refused(copied: Path, name: str) -> None:
    (copied / name).write_bytes(b"")
    with pytest.raises(CorruptBundle, match=f"expected only files that manifest.json lists, found {name}"):
        load(copied)


@pytest.mark.parametrize("name", ["cascade_1.onnx", "data_consistency.pt"])
def test_a_file_that_is_loaded_must_be_listed(copied: Path, name: str) -> None:
    manifest = json.loads((copied / MANIFEST).read_text())
    del manifest["files"][name]
    (copied / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(CorruptBundle, match=rf"expected manifest\.json to list {name}"):
        load(copied)


def test_a_file_outside_the_folder_is_refused(copied: Path) -> None:
    manifest = json.loads((copied / MANIFEST).read_text())
    manifest["files"]["../../elsewhere"] = "0" * 64
    (copied / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(CorruptBundle, match="elsewhere, found none"):
        load(copied)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "expected manifest.json"), ("{", "document"), ("{}", "format"), ('{"format": 1}', "format")],
)
def test_a_bad_manifest_is_refused(copied: Path, content: str | None, message: str) -> None:
    (copied / MANIFEST).unlink() if content is None else (copied / MANIFEST).write_text(content)
    with pytest.raises(CorruptBundle, match=message):
        load(copied)


def test_a_renamed_folder_is_refused(copied: Path) -> None:
    renamed = copied.rename(copied.with_name("9.9.9"))
    with pytest.raises(CorruptBundle, match=r"9\.9\.9: its manifest says"):
        load(renamed)


def test_an_empty_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(UnknownModel, match="at least one model folder"):
        load_all(tmp_path)


def test_choice(bundles: list[Bundle]) -> None:
    student = choose(bundles, "reconstruction")
    assert student.manifest.role == "student"
    assert choose(bundles, "reconstruction", model=student.manifest.name) is student
    assert choose(bundles, "reconstruction", model=student.manifest.reference, role="teacher") is student
    with pytest.raises(InvalidRequest, match="expected role student or teacher, got 'professor'"):
        choose(bundles, "reconstruction", role="professor")
    with pytest.raises(UnknownModel, match="expected a model 'nothing' for reconstruction, there is"):
        choose(bundles, "reconstruction", model="nothing")
    with pytest.raises(UnknownModel, match=student.manifest.reference):
        choose(bundles, "super-resolution", model=student.manifest.reference)


def test_the_newest_version_is_the_default(bundles: list[Bundle]) -> None:
    manifest = choose(bundles, "reconstruction").manifest
    versions = ("0.9.0", "0.10.0", "0.2.0")
    several = [Bundle(Path(v), manifest.model_copy(update={"version": v})) for v in versions]
    assert choose(several, "reconstruction").manifest.version == "0.10.0"
