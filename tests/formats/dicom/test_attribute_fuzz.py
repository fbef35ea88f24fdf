"""Any attribute that the reader or writer touches, in any form: an answer, or a refusal that names an element.

The images are 16 x 16 and are interpolated by repetition, so that an example takes milliseconds. KDMRI_FUZZ_EXAMPLES
sets another number of examples than the suite's.
"""

import copy
import io
import os
import re
import struct

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from pydicom import Dataset, uid
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from kdmri.errors import KdmriError
from kdmri.formats.dicom import derived, objects, reader

from .slices import content, mr_slice

EXAMPLES = int(os.environ.get("KDMRI_FUZZ_EXAMPLES", "200"))
SIDE = 16
KEYWORDS = """
SpecificCharacterSet ImageType SOPClassUID SOPInstanceUID StudyDate SeriesDate ContentTime Modality Manufacturer
SeriesDescription ReferencedImageSequence SourceImageSequence DerivationDescription DerivationCodeSequence PatientName
PatientID PatientAge ScanningSequence SliceThickness RepetitionTime EchoTime EchoNumbers SpacingBetweenSlices
EchoTrainLength StudyInstanceUID SeriesInstanceUID SeriesNumber InstanceNumber ImagePositionPatient
ImageOrientationPatient FrameOfReferenceUID ImageComments SamplesPerPixel PhotometricInterpretation NumberOfFrames Rows
Columns PixelSpacing BitsAllocated BitsStored HighBit PixelRepresentation SmallestImagePixelValue
LargestImagePixelValue PixelPaddingValue PixelPaddingRangeLimit WindowCenter WindowWidth WindowCenterWidthExplanation
RescaleIntercept RescaleSlope RescaleType VOILUTFunction VOILUTSequence ModalityLUTSequence PresentationLUTShape
LossyImageCompression LossyImageCompressionRatio LossyImageCompressionMethod ContributingEquipmentSequence
RealWorldValueMappingSequence RealWorldValueSlope RealWorldValueIntercept RealWorldValueFirstValueMapped
RealWorldValueLastValueMapped ComplexImageComponent AcquisitionContrast ContentQualification FrameType
SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence PixelMeasuresSequence PlanePositionSequence
PlaneOrientationSequence PixelValueTransformationSequence FrameVOILUTSequence MRImageFrameTypeSequence
FrameContentSequence DimensionIndexSequence DimensionIndexPointer DimensionIndexValues DerivationImageSequence
SourceImageEvidenceSequence IconImageSequence
""".split()  # noqa: SIM905
PRIVATE = {
    0x00191000: "SIEMENS MR HEADER",
    0x00291000: "SIEMENS CSA HEADER",
    0x00431000: "GEMS_PARM_01",
    0x00651000: "Image Private Header",
    0x20011000: "Philips Imaging DD 001",
    0x20051000: "Philips MR Imaging DD 001",
}
PRIVATE_TAGS = [
    0x00190010, 0x0019100A, 0x0019100C, 0x0019100E, 0x00191027, 0x00191029, 0x00290010, 0x00291010, 0x00291020,
    0x0043102F, 0x00431039, 0x00651050, 0x00651051, 0x20011003, 0x20050010, 0x2005100E,
]  # fmt: skip
TAGS = [Tag(tag_for_keyword(keyword)) for keyword in KEYWORDS] + [Tag(tag) for tag in PRIVATE_TAGS]
VRS = "AE AS AT CS DA DS DT FD FL IS LO LT OB OF OW PN SH SL SQ SS ST TM UC UI UL UN UR US UT".split()  # noqa: SIM905
CODES = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d", "AT": "I"}
WORDS = [
    "0", "1", "-1", "2", "16", "1e9", "1e-30", "1e300", "3,5", "nan", "inf", "-inf", "1.2.3", "a", "", "0.5", "1.5",
    "99999999999", "MR", "PHASE", "M", "ORIGINAL", "MOSAIC", "MONOCHROME1", "ISO_IR 100", "ISO 2022 IR 87", "20260101",
    uid.MRImageStorage, uid.EnhancedMRImageStorage, " 7 ", "1\0", "x" * 80,
]  # fmt: skip
TEXTS = st.lists(st.sampled_from(WORDS), max_size=7).map("\\".join)
ENCODINGS = ["utf-8", "latin-1", "utf-16", "iso2022_jp", "shift_jis", "gb18030"]
NAMED = re.compile(r"[A-Z][a-z]+[A-Z]\w+|\([0-9A-F]{4},[0-9A-F]{4}\)|Rows|Columns|Modality|modality|pixel data|frames")
OTHER_NAMES = re.compile(
    "photometric interpretation|SOP class|magnitude|rows and columns|pixels in all|bits? |bits,|mosaic|VFRAME|"
    "modality lookup table|sequences nested|DICOM file|MR image|rescale"
)


def base(enhanced: bool) -> Dataset:
    """Return a small classic object, or an Enhanced one of two frames."""
    dataset = mr_slice(Rows=SIDE, Columns=SIDE, SmallestImagePixelValue=None, LargestImagePixelValue=None)
    dataset.PixelData = np.arange(SIDE * SIDE, dtype="<i2").tobytes() * (2 if enhanced else 1)
    for tag, creator in PRIVATE.items():
        dataset.private_block(tag >> 16, creator, create=True)
    if not enhanced:
        return dataset
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = uid.EnhancedMRImageStorage
    dataset.NumberOfFrames = 2
    for keyword, macro in MACROS_OF_FRAMES.items():
        item = Dataset()
        for name in macro:
            setattr(item, name, dataset.get(name) or DEFAULTS[name])
            dataset.pop(name, None)
        DEFAULT_GROUPS[keyword] = item
    frames = []
    for number in range(2):
        frame = Dataset()
        for keyword, item in DEFAULT_GROUPS.items():
            if keyword in ("PlanePositionSequence", "FrameContentSequence", "MRImageFrameTypeSequence"):
                setattr(frame, keyword, [copy.deepcopy(item)])
        frame.PlanePositionSequence[0].ImagePositionPatient = [0, 0, number]
        frames.append(frame)
    shared = Dataset()
    for keyword in ("PixelMeasuresSequence", "PlaneOrientationSequence", "PixelValueTransformationSequence"):
        setattr(shared, keyword, [copy.deepcopy(DEFAULT_GROUPS[keyword])])
    shared.FrameVOILUTSequence = [copy.deepcopy(DEFAULT_GROUPS["FrameVOILUTSequence"])]
    shared.RealWorldValueMappingSequence = [copy.deepcopy(DEFAULT_GROUPS["RealWorldValueMappingSequence"])]
    dimension = Dataset()
    dimension.DimensionIndexPointer = Tag(0x00191029)
    dataset.DimensionIndexSequence = [dimension]
    dataset.SharedFunctionalGroupsSequence, dataset.PerFrameFunctionalGroupsSequence = [shared], frames
    return dataset


MACROS_OF_FRAMES = {
    "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness"),
    "PlanePositionSequence": ("ImagePositionPatient",),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept", "RescaleType"),
    "FrameVOILUTSequence": ("WindowCenter", "WindowWidth"),
    "MRImageFrameTypeSequence": ("FrameType", "ComplexImageComponent", "AcquisitionContrast"),
    "FrameContentSequence": ("DimensionIndexValues",),
    "RealWorldValueMappingSequence": (
        "RealWorldValueSlope",
        "RealWorldValueIntercept",
        "RealWorldValueFirstValueMapped",
        "RealWorldValueLastValueMapped",
    ),
}
DEFAULTS = {
    "RescaleSlope": "2",
    "RescaleIntercept": "0",
    "RescaleType": "US",
    "FrameType": ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"],
    "ComplexImageComponent": "MAGNITUDE",
    "AcquisitionContrast": "T1",
    "DimensionIndexValues": 1,
    "RealWorldValueSlope": 2.0,
    "RealWorldValueIntercept": 0.0,
    "RealWorldValueFirstValueMapped": 0,
    "RealWorldValueLastValueMapped": 99,
}
DEFAULT_GROUPS: dict[str, Dataset] = {}
BASES = {enhanced: content(base(enhanced)) for enhanced in (False, True)}


@st.composite
def values(draw: st.DrawFn, vr: str, depth: int = 0) -> bytes:
    """Return bytes of a value: mostly of the VR and of any multiplicity, at times of no form at all."""
    if vr == "SQ" and depth < 2 and draw(st.booleans()):
        items = draw(st.lists(st.lists(elements(depth + 1), max_size=3), max_size=2))
        bodies = [b"".join(element_bytes(element) for element in item) for item in items]
        return b"".join(struct.pack("<HHL", 0xFFFE, 0xE000, len(body)) + body for body in bodies)
    if vr in CODES and draw(st.booleans()):
        limits = {"H": (0, 2**16 - 1), "h": (-(2**15), 2**15 - 1), "I": (0, 2**32 - 1), "i": (-(2**31), 2**31 - 1)}
        code = CODES[vr]
        number = st.floats(width=32) if code in "fd" else st.one_of(st.integers(0, 20), st.integers(*limits[code]))
        numbers = draw(st.lists(number, max_size=7))
        return struct.pack(f"<{len(numbers)}{code}", *numbers)
    if draw(st.integers(0, 3)):
        return draw(TEXTS).encode()
    if draw(st.booleans()):
        return draw(st.text(max_size=12)).encode(draw(st.sampled_from(ENCODINGS)), "replace")
    return draw(st.binary(max_size=40))


@st.composite
def elements(draw: st.DrawFn, depth: int = 0) -> RawDataElement:
    tag = draw(st.sampled_from(TAGS))
    own = "LO" if tag.is_private else dictionary_VR(tag).split(" or ")[0]
    vr = draw(st.one_of(st.just(own), st.sampled_from(VRS)))
    value = draw(values(vr, depth))
    value += b" " * (len(value) % 2)
    return RawDataElement(tag, vr, len(value), value, 0, False, True)


def element_bytes(element: RawDataElement) -> bytes:
    value = element.value or b""
    head = struct.pack("<HH", element.tag.group, element.tag.element) + str(element.VR).encode()
    if element.VR in ("OB", "OF", "OW", "SQ", "UC", "UN", "UR", "UT"):
        return head + struct.pack("<HL", 0, len(value)) + value
    return head + struct.pack("<H", len(value)) + value


def owners(dataset: Dataset) -> list[Dataset]:
    """Return an object and the items of its functional groups."""
    found = [dataset]
    for groups in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for group in dataset.get(groups, ()):
            found += [group, *(macro.value[0] for macro in group)]
    return found


@pytest.mark.parametrize("enhanced", [False, True])
@seed(15)
@settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
@given(changes=st.lists(elements(), min_size=1, max_size=3), places=st.data())
def test_any_attribute_in_any_form_is_answered_or_refused_by_name(
    enhanced: bool, changes: list[RawDataElement], places: st.DataObject
) -> None:
    dataset = pydicom.dcmread(io.BytesIO(BASES[enhanced]))
    holders = owners(dataset)
    known = [set(holder.keys()) for holder in holders]
    top = b""
    for change in changes:
        fitting = [holder for holder, tags in zip(holders, known, strict=True) if change.tag in tags]
        holder = places.draw(st.sampled_from(fitting or holders[:1]), label="place")
        if holder is dataset:
            # pydicom would interpret a character set and a private creator before it writes them.
            dataset.pop(change.tag, None)
            top += element_bytes(change)
        else:
            holder[change.tag] = change
    source = content(dataset)
    start = 144 + int.from_bytes(source[140:144], "little")
    source = source[:start] + top + source[start:]
    refusal = ""
    try:
        groups = reader.read([source])
        pixels = [np.repeat(np.repeat(group.images.pixels, 2, 1), 2, 2) for group in groups]
        answers = derived.derive(groups, pixels, scale=2, model="m@1")
        answers = [pydicom.dcmread(io.BytesIO(objects.to_bytes(answer))) for answer in answers]
    except KdmriError as error:
        answers, refusal = [], str(error)
    assert "Error" not in refusal, f"an exception's name stands in for the element: {refusal}"
    assert answers or NAMED.search(refusal) or OTHER_NAMES.search(refusal), refusal
    assert all(np.isfinite(answer.pixel_array).all() for answer in answers)
