"""Patient, study and measurement of a k-space header, as DICOM attributes."""

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
"""Elements of ismrmrd.xsd by the DICOM keyword of the same value, in the same units.

The body part is left out: DICOM states the side of a knee beside it, which the header does not have.
"""


def patient_and_study(header: Element) -> PatientAndStudy:
    """Return the DICOM attributes found in the header, by keyword.

    A field is used only if it occurs exactly once and is a valid value of the attribute's VR after date and time are
    normalised. Invalid values are dropped, never repaired.
    """
    found = PatientAndStudy()
    for keyword, place in PLACES.items():
        # In any namespace: some converters write the header without the one of the schema.
        elements = header.findall("/".join(f"{{*}}{name}" for name in place.split("/")))
        if len(elements) == 1 and (value := _valid(dictionary_VR(keyword), (elements[0].text or "").strip())):
            found[keyword] = value
    return found


def _valid(vr: str, text: str) -> str | None:
    """Return the text as a value of this VR, or None if it can't be one."""
    # XML schema writes dates and times with separators, DICOM without; sex is a code in capitals there.
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
