"""What a k-space header says of patient, study and measurement, as DICOM attributes."""

import unicodedata
from xml.etree.ElementTree import Element

from pydicom import config
from pydicom.datadict import dictionary_VR
from pydicom.valuerep import validate_value

from kdmri.data.patient import PatientAndStudy

PLACES = {
    "PatientName": "subjectInformation/patientName",
    "PatientID": "subjectInformation/patientID",
    "PatientBirthDate": "subjectInformation/patientBirthdate",
    "PatientSex": "subjectInformation/patientGender",
    "PatientWeight": "subjectInformation/patientWeight_kg",
    "PatientSize": "subjectInformation/patientHeight_m",
    "StudyInstanceUID": "studyInformation/studyInstanceUID",
    "StudyDate": "studyInformation/studyDate",
    "StudyTime": "studyInformation/studyTime",
    "StudyID": "studyInformation/studyID",
    "StudyDescription": "studyInformation/studyDescription",
    "AccessionNumber": "studyInformation/accessionNumber",
    "ReferringPhysicianName": "studyInformation/referringPhysicianName",
    "ProtocolName": "measurementInformation/protocolName",
    "SeriesDescription": "measurementInformation/seriesDescription",
    "SequenceName": "measurementInformation/sequenceName",
    "PatientPosition": "measurementInformation/patientPosition",
    "FrameOfReferenceUID": "measurementInformation/frameOfReferenceUID",
    "MagneticFieldStrength": "acquisitionSystemInformation/systemFieldStrength_T",
    "RepetitionTime": "sequenceParameters/TR",
    "EchoTime": "sequenceParameters/TE",
    "InversionTime": "sequenceParameters/TI",
    "FlipAngle": "sequenceParameters/flipAngle_deg",
}
"""Where ismrmrd.xsd has what DICOM has under the keyword, in the same units. Not the body part: knees have a side."""


def patient_and_study(header: Element) -> PatientAndStudy:
    """DICOM values by keyword, as far as the header has one of each and DICOM takes it: no other is made of it."""
    found = PatientAndStudy()
    for keyword, place in PLACES.items():
        elements = header.findall("/".join(f"{{*}}{name}" for name in place.split("/")))
        if len(elements) == 1 and (value := _valid(dictionary_VR(keyword), (elements[0].text or "").strip())):
            found[keyword] = value
    return found


def _valid(vr: str, text: str) -> str | None:
    """The text as a value of this VR; None where it can't be one."""
    if vr == "DA":
        text = text[:10].replace("-", "")  # 1970-01-31, perhaps with a time zone
    elif vr == "TM":
        text = text.rstrip("Z").replace(":", "")
    elif vr == "CS":
        text = text.upper()
    # A backslash would make two values of one.
    if "\\" in text or any(unicodedata.category(letter) == "Cc" for letter in text):
        return None
    try:
        validate_value(vr, text, config.RAISE)
    except ValueError:
        return None
    return text
