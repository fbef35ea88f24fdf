"""Undersampling: lines are kept or left out whole, and what is left out is not invented elsewhere."""

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from pydicom.data import get_testdata_file

from kdmri.data.kspace import KSpace
from kdmri.data.patient import PatientAndStudy
from kdmri.errors import UnsupportedInput
from kdmri.formats import nifti
from kdmri.formats.dicom import reader as dicom
from kdmri.formats.kspace import fastmri
from kdmri.operations.undersampling import keep_lines, of_images, read_full
from kdmri.phantoms import phantom, scan
from kdmri.physics.sampling import MASKS
from tests.scans import rss

FULL = scan(phantom(32, 64).repeat(2, axis=0), coils=2)


@pytest.mark.parametrize("mask", sorted(MASKS))
def test_kept_lines_are_as_they_were_and_the_others_empty_in_every_slice(mask: str) -> None:
    found = keep_lines(FULL, 4, mask=mask, seed=3)
    kept = np.broadcast_to(found.mask[:, np.newaxis], FULL.samples.shape)
    assert_array_equal(found.samples[kept], FULL.samples[kept])
    assert not found.samples[~kept].any()
    assert found.acceleration == pytest.approx(4, rel=0.2)
    assert (found.image_shape, found.geometry) == (FULL.image_shape, FULL.geometry)


def test_a_seed_chooses_the_lines() -> None:
    patterns = [keep_lines(FULL, 4, seed=seed).mask for seed in (0, 0, 1)]
    assert_array_equal(patterns[0], patterns[1])
    assert (patterns[0] != patterns[2]).any()


def test_patient_and_calibration_are_left_out() -> None:
    named = replace(FULL, patient_and_study=PatientAndStudy(PatientName="Doe^Jane"), calibration=FULL)
    found = keep_lines(named, 4)
    assert not found.patient_and_study
    assert found.calibration is None


def test_a_scan_that_lacks_lines_is_refused() -> None:
    with pytest.raises(UnsupportedInput, match=r"fully sampled k-space, got acceleration 2\.0"):
        keep_lines(scan(phantom(32, 64), acceleration=2), 4)


def read_back(source: Path) -> KSpace:
    found = read_full(source)
    assert found.mask.all()
    return found


def test_k_space_of_a_file_is_that_of_its_images(tmp_path: Path) -> None:
    source = Path(str(get_testdata_file("MR_small.dcm")))
    images = dicom.read([source])[0].images
    assert_allclose(rss(read_back(source)), images.pixels, rtol=1e-4, atol=1e-4 * images.pixels.max())
    packed = nifti.to_bytes(images)
    for name, content in {"image.nii.gz": packed, "image.nii": gzip.decompress(packed)}.items():
        (tmp_path / name).write_bytes(content)
        assert_allclose(rss(read_back(tmp_path / name)), images.pixels, rtol=1e-4, atol=1e-4 * images.pixels.max())


def test_k_space_of_a_raw_file_is_read_as_it_is(tmp_path: Path) -> None:
    fastmri.write(tmp_path / "scan.h5", FULL)
    assert_array_equal(read_back(tmp_path / "scan.h5").samples, FULL.samples)


def test_images_have_one_coil_and_keep_their_geometry() -> None:
    (series,) = dicom.read([Path(str(get_testdata_file("MR_small.dcm")))])
    found = of_images(series.images)
    rows, columns = series.images.pixels.shape[1:]
    assert found.samples.shape == (1, 1, rows, columns)
    assert (found.image_shape, found.geometry) == ((rows, columns), series.images.geometry)
