"""Records come out of a package as they went in, and nothing else comes out."""

import json
from pathlib import Path

import numpy as np
import pytest
from pydicom.data import get_testdata_file

from kdmri.data.geometry import Geometry
from kdmri.data.images import Images
from kdmri.data.kspace import KSpace
from kdmri.data.patient import PatientAndStudy
from kdmri.errors import UnreadableInput
from kdmri.formats.dicom.reader import DicomSeries, read
from kdmri.operations.packing import Record, pack, unpack

GEOMETRY = Geometry(np.ones((2, 3)), np.eye(3)[:2], (1.5, 0.75), 3.0, placed=False)
SCAN = KSpace(
    np.arange(2 * 3 * 6 * 8).reshape(2, 3, 6, 8).astype(np.complex64),
    np.ones((1, 6, 8), bool),
    (6, 8),
    GEOMETRY,
    KSpace(np.ones((2, 3, 6, 8), np.complex64), np.ones((1, 6, 8), bool), (6, 8)),
    PatientAndStudy(PatientName="Doe^Jané"),
    notes=("a note",),
)


def through(record: Record) -> Record:
    """Send a record through JSON and back."""
    document, arrays = pack([record])
    (found,) = unpack(json.loads(json.dumps(document)), arrays)
    return found


def test_a_scan_comes_back_as_it_was() -> None:
    found = through(SCAN)
    assert isinstance(found, KSpace)
    assert isinstance(found.calibration, KSpace)
    np.testing.assert_array_equal(found.samples, SCAN.samples)
    np.testing.assert_array_equal(found.mask, SCAN.mask)
    assert (found.image_shape, found.notes) == (SCAN.image_shape, SCAN.notes)
    assert isinstance(found.patient_and_study, PatientAndStudy)
    assert found.patient_and_study == SCAN.patient_and_study
    assert found.geometry is not None
    np.testing.assert_array_equal(found.geometry.positions, GEOMETRY.positions)
    assert (found.geometry.spacing, found.geometry.placed) == (GEOMETRY.spacing, False)


def test_images_come_back_as_they_were() -> None:
    found = through(Images(np.ones((1, 4, 5), np.float32), residual=0.5))
    assert isinstance(found, Images)
    assert (found.pixels.shape, found.residual) == ((1, 4, 5), 0.5)


@pytest.mark.parametrize("name", ["MR_small.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm"])
def test_a_series_comes_back_as_it_was(name: str) -> None:
    (series,) = read([Path(str(get_testdata_file(name)))])
    found = through(series)
    assert isinstance(found, DicomSeries)
    assert found.headers == series.headers
    assert found.headers[0].file_meta == series.headers[0].file_meta
    np.testing.assert_array_equal(found.images.pixels, series.images.pixels)


def test_no_value_of_a_patient_shows_in_the_text_of_a_record() -> None:
    assert "Doe" not in repr(through(SCAN))


def changed(field: str, value: object) -> object:
    """Return the package of a scan with one field changed."""
    document, _ = pack([SCAN])
    document[0]["fields"][field] = value  # type: ignore[index, call-overload]
    return document


LIES = {
    "no list": {"fields": {}},
    "nothing known": [{"fields": {"pixels": 1}}],
    "another kind": [{"pickle": "gASVEAAAAAAAAACMAm9zlIwGc3lzdGVtlJOULg=="}],
    "two kinds": [{"array": 0, "fields": {}}],
    "a missing array": changed("samples", {"array": 99}),
    "an array that is not there": changed("samples", {"array": "0"}),
    "too few dimensions": changed("samples", {"array": 1}),
    "a mask of numbers": changed("mask", {"array": 0}),
    "a size of text": changed("image_shape", ["6", "x"]),
    "patient data that is a list": changed("patient_and_study", ["x"]),
    "a geometry without positions": changed("geometry", {"fields": {"spacing": [1, 1]}}),
    "a header that is no base64": [{"fields": {"images": None, "headers": [{"header": ["%", "%"]}]}}],
    "notes that are no text": changed("notes", [{"array": 0}]),
}


@pytest.mark.parametrize("document", LIES.values(), ids=LIES)
def test_lies_are_refused(document: object) -> None:
    _, arrays = pack([SCAN])
    with pytest.raises(UnreadableInput):
        unpack(document, arrays)  # type: ignore[arg-type]


def test_what_records_do_not_hold_is_not_sent() -> None:
    with pytest.raises(TypeError, match="expected a value that records hold, got Dataset"):
        pack([Images(np.ones((1, 4, 5), np.float32), residual=type("Dataset", (), {})())])
