"""Answers as bytes: each media type holds what was answered, and several objects have one envelope."""

import email
import io
import json
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from pydantic import JsonValue
from pydicom import dcmread
from pydicom.data import get_testdata_file

from kdmri.bundles.store import Bundle
from kdmri.data.images import Images
from kdmri.errors import NotAcceptable
from kdmri.formats.dicom import reader
from kdmri.operations import encoding
from kdmri.operations.media_types import DICOM, HDF5, JSON, NIFTI, PNG, RELATED, ZIP
from kdmri.operations.operation import Input, Result
from kdmri.operations.reconstruction import ReconstructionInput
from kdmri.operations.super_resolution import SuperResolutionInput
from kdmri.phantoms import phantom, scan

PIXELS = phantom(16, 24).astype(np.float32)
STUDENT, TEACHER = Images(PIXELS), Images(PIXELS[:, ::-1].copy() / 2)


def results_of(source: Input, bundles: list[Bundle], *images: Images) -> list[Result]:
    """Return results with the given images, as the first model that the project ships would have answered."""
    job = source.jobs[0]
    return [Result(bundles[0].manifest, stack, job.assess(STUDENT)) for stack in images]


@pytest.fixture
def source() -> ReconstructionInput:
    """A scan of the size of PIXELS."""
    return ReconstructionInput(scan(phantom(16, 24), acceleration=2))


def test_hdf5_holds_pixels_and_figures_and_those_of_a_dataset_with_it() -> None:
    figures: dict[str, JsonValue] = {"psnr_db": 40.5, "none": None, "other": {"a": 1}, "student": {"noise": 0.5}}
    with h5py.File(io.BytesIO(encoding.hdf5({"student": PIXELS, "teacher": PIXELS}, figures))) as file:
        assert_array_equal(file["student"], PIXELS)
        assert dict(file.attrs) == {"psnr_db": 40.5}
        assert dict(file["student"].attrs) == {"noise": 0.5}
        assert dict(file["teacher"].attrs) == {}


def test_both_roles_stand_beside_their_difference() -> None:
    datasets = encoding.datasets_of_both(STUDENT, TEACHER)
    assert_allclose(datasets["teacher"] + datasets["difference"], datasets["student"], atol=1e-6)
    for one, other in ((STUDENT, TEACHER), (TEACHER, STUDENT)):
        wide = encoding.side_by_side(one, other)
        assert wide.shape == (1, 16, 3 * 24)
        left, middle, right = np.split(wide, 3, axis=2)
        assert_array_equal(left, one.pixels)
        assert_array_equal(middle, other.pixels)
        assert_allclose(right, encoding.GAIN * np.abs(left - middle), atol=1e-6)


def test_one_object_needs_no_envelope_and_several_have_one() -> None:
    assert encoding.envelope([b"a"], DICOM) == (b"a", DICOM)
    with pytest.raises(NotAcceptable, match="one object, the answer has 2"):
        encoding.envelope([b"a", b"b"], DICOM)
    body, media_type = encoding.envelope([b"a", b"b"], ZIP)
    assert media_type == ZIP
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        assert [(name, archive.read(name)) for name in archive.namelist()] == [("0001.dcm", b"a"), ("0002.dcm", b"b")]


def test_a_related_body_can_be_taken_apart_by_its_own_content_type() -> None:
    body, media_type = encoding.envelope([b"first", b"second"], RELATED)
    message = email.message_from_bytes(f"Content-Type: {media_type}\r\n\r\n".encode() + body)
    parts = message.get_payload()
    assert isinstance(parts, list)
    assert [part.get_payload(decode=True) for part in parts] == [b"first", b"second"]
    assert {part.get_content_type() for part in parts} == {DICOM}


def test_one_file_is_the_target_and_several_are_numbered_within_it(tmp_path: Path) -> None:
    encoding.write_files([b"a"], tmp_path / "one")
    assert (tmp_path / "one").read_bytes() == b"a"
    for _ in range(2):
        encoding.write_files([b"a", b"b"], tmp_path / "new" / "many")
    written = sorted((tmp_path / "new" / "many").iterdir())
    assert [(file.name, file.read_bytes()) for file in written] == [("0001.dcm", b"a"), ("0002.dcm", b"b")]


def test_each_media_type_holds_the_images(source: ReconstructionInput, bundles: list[Bundle]) -> None:
    results = results_of(source, bundles, STUDENT)
    files = {kind: source.encode(results, kind) for kind in (HDF5, JSON, PNG, NIFTI, DICOM)}
    assert {kind: len(found) for kind, found in files.items()} == dict.fromkeys(files, 1)
    with h5py.File(io.BytesIO(files[HDF5][0])) as file:
        assert_array_equal(file["reconstruction"], PIXELS)
        assert file.attrs["model"] == bundles[0].manifest.reference
    assert json.loads(files[JSON][0]) == json.loads(json.dumps(source.figures(results)))
    assert files[PNG][0].startswith(b"\x89PNG")
    assert files[NIFTI][0].startswith(b"\x1f\x8b") or b"n+1" in files[NIFTI][0][:352]
    assert dcmread(io.BytesIO(files[DICOM][0])).pixel_array.shape == (16, 24)


def test_figures_that_are_given_take_the_place_of_the_inputs_own(
    source: ReconstructionInput, bundles: list[Bundle]
) -> None:
    (found,) = source.encode(results_of(source, bundles, STUDENT), JSON, {"noise": 1})
    assert json.loads(found) == {"noise": 1}


def test_an_answer_of_both_roles_has_each_type(source: ReconstructionInput, bundles: list[Bundle]) -> None:
    pair = results_of(source, bundles, STUDENT, TEACHER)
    with h5py.File(io.BytesIO(source.encode_both(pair, HDF5, {"psnr_db": 40}))) as file:
        assert sorted(file) == ["difference", "student", "teacher"]
        assert_array_equal(file["teacher"], TEACHER.pixels)
        assert file.attrs["psnr_db"] == 40
    assert json.loads(source.encode_both(pair, JSON, {"psnr_db": 40})) == {"psnr_db": 40}
    assert source.encode_both(pair, PNG, {}).startswith(b"\x89PNG")


def test_figures_leave_out_what_was_not_measured(bundles: list[Bundle]) -> None:
    (series,) = reader.read([Path(str(get_testdata_file("MR_small.dcm")))])
    source = SuperResolutionInput([series], 2)
    fine = Images(series.images.pixels.repeat(2, axis=1).repeat(2, axis=2))
    quality = source.jobs[0].assess(fine)
    found = source.figures([Result(bundles[0].manifest, fine, quality)])
    missing = {name for name, value in vars(quality).items() if value is None}
    assert missing
    assert not missing & set(found)
    assert {name for name, value in vars(quality).items() if value is not None} <= set(found)
    assert found["shape"] == [1, 128, 128]
    assert found["shapes"] == [[1, 128, 128]]
