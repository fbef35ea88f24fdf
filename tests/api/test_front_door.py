"""The names of `import kdmri`: cheap to import, documented, and the same images as the layers below them."""

import doctest
import importlib
import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.data import get_testdata_file

import kdmri
from kdmri.errors import CorruptBundle, InvalidRequest, UnknownModel, UnreadableInput, UnsupportedInput
from kdmri.quality import metrics
from kdmri.runtime import Reconstructor, zero_filled
from kdmri.runtime.model import Model

MODULES = ("files", "loading", "operations", "result")
SLICE = Path(get_testdata_file("MR_small.dcm"))


@pytest.fixture(scope="module")
def scan() -> kdmri.KSpace:
    """A real slice, every fourth line of its simulated k-space."""
    series = kdmri.read(SLICE)
    assert isinstance(series, list)
    return kdmri.undersample(series, 4)


@pytest.fixture(scope="module")
def finer() -> kdmri.Result:
    series = kdmri.read(SLICE)
    assert isinstance(series, list)
    return kdmri.super_resolve(series, 2)


@pytest.mark.parametrize("module", MODULES)
def test_examples_in_docstrings_are_true(module: str) -> None:
    results = doctest.testmod(importlib.import_module(f"kdmri.api.{module}"), extraglobs={"kdmri": kdmri})
    assert results.failed == 0
    assert results.attempted > 0 or module == "result"


def test_importing_is_cheap() -> None:
    loaded = "import sys, kdmri; print(sorted({'torch', 'numpy', 'pydicom', 'h5py'} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_the_package_offers_exactly_the_names_of_its_interface() -> None:
    assert kdmri.__all__ == importlib.import_module("kdmri.api").__all__


@pytest.mark.parametrize("name", kdmri.__all__)
def test_each_name_is_there_and_documented(name: str) -> None:
    assert (getattr(kdmri, name).__doc__ or "").strip()
    assert name in dir(kdmri)


def test_other_names_are_not_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'reconstrukt'"):
        kdmri.reconstrukt  # noqa: B018


def test_images_are_those_of_the_runtime(scan: kdmri.KSpace, models: dict[tuple[str, str], Model]) -> None:
    for role in ("student", "teacher"):
        expected = Reconstructor(models["reconstruction", role]).reconstruct(scan)
        for model in (role, kdmri.load(role), models["reconstruction", role].manifest.reference):
            np.testing.assert_array_equal(kdmri.reconstruct(scan, model).pixels, expected.pixels)


def test_a_reconstruction_is_closer_to_the_truth_than_zero_filling(scan: kdmri.KSpace) -> None:
    truth = pydicom.dcmread(SLICE).pixel_array[None].astype(np.float32)
    gained = metrics.psnr(truth, kdmri.reconstruct(scan).pixels)
    assert gained > metrics.psnr(truth, zero_filled(scan).pixels)


@pytest.mark.parametrize("as_source", [str, Path, Path.read_bytes, lambda path: io.BytesIO(path.read_bytes())])
def test_files_are_told_apart_by_content(
    as_source: Callable[[Path], kdmri.api.files.Source], scan: kdmri.KSpace, tmp_path: Path
) -> None:
    kdmri.save(scan, tmp_path / "scan.h5")
    misnamed = (tmp_path / "scan.h5").rename(tmp_path / "scan.dcm")
    again = kdmri.read(as_source(misnamed))
    assert isinstance(again, kdmri.KSpace)
    np.testing.assert_allclose(again.samples, scan.samples)
    np.testing.assert_array_equal(np.broadcast_to(again.mask, scan.mask.shape), scan.mask)
    assert isinstance(kdmri.read(as_source(SLICE)), list)


def test_hdf5_after_a_user_block_is_read(scan: kdmri.KSpace, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "scan.h5", "w", userblock_size=1024) as file:
        file["kspace"] = scan.samples
    assert isinstance(kdmri.read(tmp_path / "scan.h5"), kdmri.KSpace)


def test_a_folder_is_read_at_any_depth(tmp_path: Path) -> None:
    (tmp_path / "study" / "series").mkdir(parents=True)
    (tmp_path / "study" / "series" / "1").write_bytes(SLICE.read_bytes())
    (tmp_path / "study" / "notes.txt").write_text("not an image")
    [series] = kdmri.read(tmp_path)
    assert series.images.pixels.shape == (1, 64, 64)


def test_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableInput, match=r"expected k-space in HDF5 or an MR DICOM file"):
        kdmri.read(b"hello")
    with pytest.raises(UnreadableInput, match="got 0 other files"):
        kdmri.read(tmp_path)


def test_an_input_for_the_other_operation_is_refused_by_its_name(scan: kdmri.KSpace) -> None:
    series = kdmri.read(SLICE)
    assert isinstance(series, list)
    with pytest.raises(UnsupportedInput, match="super_resolve takes those"):
        kdmri.reconstruct(series)
    with pytest.raises(UnsupportedInput, match="reconstruct takes that"):
        kdmri.super_resolve(scan)
    with pytest.raises(InvalidRequest, match="is for super-resolution"):
        kdmri.reconstruct(scan, kdmri.load("student", task="super-resolution"))


def test_models_are_loaded_by_name_from_any_folder(tmp_path: Path) -> None:
    assert kdmri.load("vdsr-teacher").manifest.task == "super-resolution"
    with pytest.raises(UnknownModel, match="a model 'mine' for reconstruction"):
        kdmri.load("mine")
    with pytest.raises(UnknownModel):
        kdmri.models(tmp_path)
    (tmp_path / "mine" / "1").mkdir(parents=True)
    (tmp_path / "mine" / "1" / "manifest.json").write_text("{}")
    with pytest.raises(CorruptBundle):
        kdmri.load(folder=tmp_path)


def test_masks_are_chosen_by_name(scan: kdmri.KSpace) -> None:
    with pytest.raises(InvalidRequest, match="expected mask random, "):
        kdmri.undersample(scan, 4, mask="radial")
    with pytest.raises(UnsupportedInput, match="got acceleration 4"):
        kdmri.undersample(scan, 4)


def test_a_reconstruction_is_saved_in_each_format(scan: kdmri.KSpace, tmp_path: Path) -> None:
    result = kdmri.reconstruct(scan)
    for name in ("out.h5", "out.dcm", "out.nii.gz", "out.png", "series"):
        kdmri.save(result, tmp_path / name)
    with h5py.File(tmp_path / "out.h5") as file:
        np.testing.assert_array_equal(file["reconstruction"][()], result.pixels)
        assert file.attrs["model"] == result.model.reference
    volume = nibabel.load(tmp_path / "out.nii.gz")
    np.testing.assert_allclose(np.asarray(volume.dataobj)[..., 0], result.pixels[0], rtol=1e-6)
    assert Image.open(tmp_path / "out.png").size == (64, 64)
    for file in (tmp_path / "out.dcm", tmp_path / "series" / "0001.dcm"):
        assert result.model.reference in str(pydicom.dcmread(file))


def test_finer_images_are_saved_in_formats_that_hold_them(finer: kdmri.Result, tmp_path: Path) -> None:
    kdmri.save(finer, tmp_path / "finer.dcm")
    source, made = pydicom.dcmread(SLICE), pydicom.dcmread(tmp_path / "finer.dcm")
    assert (made.Rows, made.Columns) == (128, 128)
    assert made.StudyInstanceUID == source.StudyInstanceUID
    with pytest.raises(InvalidRequest, match=r"ends in .dcm, .nii.gz, .png or without a suffix, got .h5"):
        kdmri.save(finer, tmp_path / "finer.h5")


def test_several_images_do_not_go_into_one_dicom_file(scan: kdmri.KSpace, tmp_path: Path) -> None:
    two = kdmri.KSpace(np.repeat(scan.samples, 2, axis=0), scan.mask, scan.image_shape, None)
    result = kdmri.reconstruct(two)
    with pytest.raises(UnsupportedInput, match=r"expected one image for a \.dcm file, got 2"):
        kdmri.save(result, tmp_path / "out.dcm")
    kdmri.save(result, tmp_path / "out")
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["0001.dcm", "0002.dcm"]
