"""Patient, study and measurement: from the headers of k-space into DICOM, whole or not at all, and nowhere else."""

import io
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from xml.etree.ElementTree import fromstring

import h5py
import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdmri.data.geometry import Geometry
from kdmri.data.images import Images
from kdmri.formats.dicom import objects, original
from kdmri.formats.kspace import fastmri
from kdmri.formats.kspace import reader as kspace
from kdmri.formats.kspace.description import PLACES, patient_and_study
from kdmri.phantoms import phantom, scan
from tests.formats.kspace.mrd_files import MrdFile

TOLD = {
    "PatientName": ("patientName", "Müller^Änne", "Müller^Änne"),
    "PatientID": ("patientID", "4711/08", "4711/08"),
    "PatientBirthDate": ("patientBirthdate", "1962-02-28", "19620228"),
    "PatientSex": ("patientGender", "F", "F"),
    "PatientWeight": ("patientWeight_kg", "61.5", "61.5"),
    "StudyInstanceUID": ("studyInstanceUID", "1.2.276.0.7230010.3.1.2.0", "1.2.276.0.7230010.3.1.2.0"),
    "StudyDate": ("studyDate", "2024-05-06Z", "20240506"),
    "StudyTime": ("studyTime", "07:08:09.5", "070809.5"),
    "StudyID": ("studyID", "S1", "S1"),
    "AccessionNumber": ("accessionNumber", "1234", "1234"),
    "PatientPosition": ("patientPosition", "HFS", "HFS"),
    "ProtocolName": ("protocolName", "t2_tse_tra", "t2_tse_tra"),
    "FrameOfReferenceUID": ("frameOfReferenceUID", "1.2.276.0.7230010.3.1.4.7", "1.2.276.0.7230010.3.1.4.7"),
    "MagneticFieldStrength": ("systemFieldStrength_T", "2.89", "2.89"),
    "RepetitionTime": ("TR", "4000", "4000"),
    "EchoTime": ("TE", "89", "89"),
}
"""What a header's element holds, and what DICOM's."""
EXPECTED = {keyword: value for keyword, (_, _, value) in TOLD.items()}


def header(texts: dict[str, str]) -> str:
    """The header of a small scan that says these, by the element's name."""
    sections: dict[str, str] = {}
    for place in PLACES.values():
        section, name = place.split("/")
        if name in texts:
            sections[section] = sections.get(section, "") + f"<{name}>{texts[name]}</{name}>"
    told = "".join(f"<{section}>{content}</{section}>" for section, content in sections.items())
    plain = MrdFile.of(scan(phantom(16, 16))).header()
    return plain.replace("<experimentalConditions>", told + "<experimentalConditions>", 1)


FULL = header({name: text for name, text, _ in TOLD.values()})


@pytest.fixture
def mrd(tmp_path: Path) -> Callable[[str], Path]:
    def save(xml: str) -> Path:
        file = MrdFile.of(scan(phantom(16, 16)))
        file.xml = xml
        return file.save(tmp_path / "scan.h5")

    return save


def test_the_header_of_an_ismrmrd_file_is_carried(mrd: Callable[[str], Path]) -> None:
    assert kspace.read(mrd(FULL)).patient_and_study == EXPECTED


def test_the_header_of_a_fastmri_file_is_carried(tmp_path: Path) -> None:
    fastmri.write(tmp_path / "scan.h5", scan(phantom(16, 16)))
    with h5py.File(tmp_path / "scan.h5", "a") as file:
        del file["ismrmrd_header"]
        file["ismrmrd_header"] = FULL
    with kspace.open_scan(tmp_path / "scan.h5") as stored:
        assert stored.patient_and_study == EXPECTED
    assert kspace.read(tmp_path / "scan.h5").patient_and_study == EXPECTED


def test_a_header_that_says_nothing_is_fine(mrd: Callable[[str], Path]) -> None:
    assert kspace.read(mrd(header({}))).patient_and_study == {}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("patientBirthdate", "0000-00-00"),
        ("patientBirthdate", "about 1960"),
        ("patientGender", "unknown, see notes"),
        ("patientName", "Two\\names"),
        ("patientID", "x" * 65),
        ("studyInstanceUID", "1.2.3.x"),
        ("frameOfReferenceUID", "none"),
        ("studyTime", "half past ten"),
        ("accessionNumber", "longer than sixteen"),
        ("systemFieldStrength_T", "three"),
    ],
)
def test_what_dicom_does_not_take_is_left_out_and_costs_nothing(
    mrd: Callable[[str], Path], name: str, text: str
) -> None:
    found = kspace.read(mrd(header({name: text, "protocolName": "t2"})))
    assert found.patient_and_study == {"ProtocolName": "t2"}
    assert found.samples.any()


@given(st.dictionaries(st.sampled_from(sorted(PLACES)), st.text(max_size=80)))
def test_whatever_a_header_says_dicom_can_be_written_with_it(texts: dict[str, str]) -> None:
    root = fromstring("<ismrmrdHeader/>")
    for keyword, text in texts.items():
        section, name = PLACES[keyword].split("/")
        root.append(fromstring(f"<{section}><{name}/></{section}>"))
        root[-1][0].text = text
    (answer,) = original.create(
        Images(np.ones((1, 4, 4), np.float32)), model="a@1", patient_and_study=patient_and_study(root)
    )
    back = pydicom.dcmread(io.BytesIO(objects.to_bytes(answer)))
    for keyword in patient_and_study(root):
        assert back[keyword].VM == 1


def test_a_dicom_answer_is_of_the_patient_and_the_study() -> None:
    told = patient_and_study(fromstring(FULL))
    geometry = Geometry(np.zeros((2, 3)), np.eye(3)[:2], (1.0, 1.0), 3.0)
    answers = original.create(Images(np.ones((2, 8, 8), np.float32), geometry), model="a@1", patient_and_study=told)
    for answer in answers:
        assert {keyword: str(answer[keyword].value) for keyword in EXPECTED} == EXPECTED
        assert answer.SeriesDescription == "t2_tse_tra kdmri reconstruction"
    assert len({answer.SeriesInstanceUID for answer in answers}) == 1


def test_a_study_of_unknown_date_gets_none_and_a_made_up_place_no_frame_of_reference() -> None:
    told = {"StudyInstanceUID": "1.2.3", "FrameOfReferenceUID": "1.2.4"}
    (answer,) = original.create(Images(np.ones((1, 8, 8), np.float32)), model="a@1", patient_and_study=told)
    assert (answer.StudyInstanceUID, answer.StudyDate, answer.StudyTime) == ("1.2.3", "", "")
    assert answer.FrameOfReferenceUID != "1.2.4"


@pytest.mark.skipif(not shutil.which("dciodvfy"), reason="Debian's dicom3tools is not installed")
def test_dciodvfy_has_no_complaint(tmp_path: Path) -> None:
    told = patient_and_study(fromstring(FULL))
    (answer,) = original.create(Images(np.ones((1, 8, 8), np.float32)), model="a@1", patient_and_study=told)
    (tmp_path / "answer.dcm").write_bytes(objects.to_bytes(answer))
    ran = subprocess.run(["dciodvfy", tmp_path / "answer.dcm"], capture_output=True, text=True, check=False)
    assert [line for line in ran.stderr.splitlines() if line.startswith("Error")] == []


def test_who_it_is_does_not_show_and_is_not_passed_on(mrd: Callable[[str], Path]) -> None:
    found = kspace.read(mrd(FULL))
    assert "Müller" not in repr(found)
    assert found.without_patient().patient_and_study == {}
