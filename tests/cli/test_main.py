"""The command, as a user runs it: a process, its exit code, its output."""

import subprocess
import sys
from pathlib import Path
from typing import get_args

import h5py
import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.data import get_testdata_file

from kdmri.bundles.manifest import ROLES
from kdmri.cli.common import RoleChoice
from kdmri.formats.kspace import fastmri
from kdmri.phantoms import phantom, scan
from tests.contract.requests import copy_of, zipped
from tests.formats.kspace.mrd_files import MrdFile

KDMRI = Path(sys.executable).with_name("kdmri")
MR = Path(get_testdata_file("MR_small.dcm"))


def kdmri(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([KDMRI, *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("full") / "scan.h5"
    fastmri.write(path, scan(phantom(64, 80)))
    return path


@pytest.mark.parametrize("mask", ["random", "equispaced", "variable-density"])
def test_undersample(full: Path, tmp_path: Path, mask: str) -> None:
    done = kdmri("undersample", full, "-o", tmp_path / "r4.h5", "--acceleration", 4, "--mask", mask, "--seed", 1)
    assert done.returncode == 0, done.stderr
    with h5py.File(tmp_path / "r4.h5") as kept, h5py.File(full) as whole:
        lines = kept["mask"][()].astype(bool)
        assert np.array_equal(kept["kspace"][()], np.where(lines, whole["kspace"][()], 0))
        assert 3.4 < lines.size / lines.sum() < 4.6


def test_undersampled_data_is_not_undersampled_again(full: Path, tmp_path: Path) -> None:
    kdmri("undersample", full, "-o", tmp_path / "r4.h5", "--acceleration", 4)
    done = kdmri("undersample", tmp_path / "r4.h5", "-o", tmp_path / "r16.h5", "--acceleration", 4)
    assert done.returncode == 1
    assert done.stderr.startswith("kdmri: expected fully sampled k-space, got acceleration")


@pytest.mark.parametrize("file_format", ["h5", "png", "nifti", "dicom"])
def test_reconstruct(full: Path, tmp_path: Path, file_format: str) -> None:
    target = tmp_path / {"h5": "o.h5", "png": "o.png", "nifti": "o.nii.gz", "dicom": "o.dcm"}[file_format]
    done = kdmri("reconstruct", full, "-o", target, "--format", file_format)
    assert done.returncode == 0, done.stderr
    assert "dc-cnn-student@" in done.stderr
    shapes = {
        "h5": lambda: h5py.File(target)["reconstruction"].shape[1:],
        "png": lambda: Image.open(target).size[::-1],
        "nifti": lambda: nibabel.load(target).shape[:2],
        "dicom": lambda: pydicom.dcmread(target).pixel_array.shape,
    }
    assert shapes[file_format]() == (64, 80)


def test_reconstruct_a_chosen_repetition_with_chosen_coils(tmp_path: Path) -> None:
    file = MrdFile.of(scan(phantom(48, 48), coils=4))
    again = file.heads.copy()
    again["idx"]["repetition"] = 1
    file.add(again, [3 * readout for readout in file.readouts])
    path = file.save(tmp_path / "scan.h5")
    for number in (0, 1):
        target = tmp_path / f"{number}.h5"
        done = kdmri("reconstruct", path, "-o", target, "--repetition", number, "--coils", 3)
        assert done.returncode == 0, done.stderr
        assert "the plain image: nothing is missing" in done.stderr
    first, second = (h5py.File(tmp_path / f"{number}.h5")["reconstruction"][()] for number in (0, 1))
    np.testing.assert_allclose(second, 3 * first, rtol=1e-4, atol=1e-4)
    done = kdmri("reconstruct", path, "--contrast", 1)
    assert done.returncode == 1
    assert done.stderr == "kdmri: expected a contrast from 0 to 0, those of the file, got 1\n"


def test_super_resolve_a_file_a_folder_and_a_zip(tmp_path: Path) -> None:
    folder = tmp_path / "series"
    folder.mkdir()
    # Two instances of one series: the same instance twice is worked on once.
    contents = (MR.read_bytes(), copy_of(MR.read_bytes()))
    for name, content in zip(("a.dcm", "b.dcm"), contents, strict=True):
        (folder / name).write_bytes(content)
    (folder / "notes.txt").write_text("not DICOM")
    (tmp_path / "series.zip").write_bytes(zipped(*contents))
    assert kdmri("super-resolve", MR, "-o", tmp_path / "one.dcm", "--role", "teacher").returncode == 0
    assert pydicom.dcmread(tmp_path / "one.dcm").Rows == 128
    for source in (folder, tmp_path / "series.zip"):
        target = tmp_path / f"out of {source.name}"
        done = kdmri("super-resolve", source, "-o", target, "--scale", 4)
        assert done.returncode == 0, done.stderr
        assert [pydicom.dcmread(f).Rows for f in sorted(target.iterdir())] == [256, 256]


def test_the_same_instance_twice_is_worked_on_once_and_said(tmp_path: Path) -> None:
    folder = tmp_path / "series"
    folder.mkdir()
    for name in ("a.dcm", "b.dcm"):
        (folder / name).write_bytes(MR.read_bytes())
    done = kdmri("super-resolve", folder, "-o", tmp_path / "one.dcm")
    assert done.returncode == 0, done.stderr
    assert pydicom.dcmread(tmp_path / "one.dcm").Rows == 128
    assert "came more than once" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["reconstruct", "missing.h5"], "kdmri: expected a file or folder, missing.h5 is not there"),
        (
            ["reconstruct", MR],
            "kdmri: expected k-space in HDF5 (fastMRI, ISMRMRD), .npy or BART's .cfl, got a DICOM file",
        ),
        (["super-resolve", get_testdata_file("CT_small.dcm")], "kdmri: expected an MR image, got modality CT"),
        (["super-resolve", get_testdata_file("MR_truncated.dcm")], "kdmri: truncated pixel data"),
        (["models", "--models", "/nowhere"], "kdmri: expected at least one model folder"),
        (
            ["reconstruct", MR, "--models", "/nowhere"],
            "kdmri: expected k-space in HDF5 (fastMRI, ISMRMRD), .npy or BART's .cfl, got a DICOM file",
        ),
    ],
)
def test_a_failure_is_one_clear_line(arguments: list[object], message: str) -> None:
    done = kdmri(*arguments)
    assert done.returncode == 1
    assert done.stderr.startswith(message)
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("arguments", [["reconstruct"], ["reconstruct", "x.h5", "--role", "professor"], ["nonsense"]])
def test_a_usage_error_is_exit_two(arguments: list[str]) -> None:
    assert kdmri(*arguments).returncode == 2


def test_debug_shows_the_traceback() -> None:
    assert "Traceback" in kdmri("--debug", "reconstruct", "missing.h5").stderr


def test_models_lists_what_is_shipped() -> None:
    done = kdmri("models")
    for name in ("dc-cnn-student", "dc-cnn-teacher", "vdsr-student", "vdsr-teacher"):
        assert name in done.stdout


def test_the_serving_path_imports_no_training_dependency() -> None:
    code = "import sys, kdmri_service.app, kdmri.cli.main; print(*sys.modules)"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    assert not loaded & {"lightning", "tensorboard", "matplotlib", "onnxscript", "kdmri_training", "nilearn", "pandas"}


def test_roles_of_the_command_line_are_those_of_manifests() -> None:
    assert get_args(RoleChoice) == ROLES
