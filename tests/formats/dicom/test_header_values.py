"""Header values that are readable yet can't be written, in another VR, absent or damaged: an answer, or their name."""

import copy

import numpy as np
import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from pydicom.datadict import tag_for_keyword

from kdmri.errors import KdmriError, UnreadableDicom
from kdmri.formats.dicom import derived, objects, reader

from .slices import answer_to, content, mr_slice, with_value

SPACING, POSITION, SLOPE = 0x00280030, 0x00200032, 0x00281053


@pytest.mark.parametrize(
    ("vr", "value"),
    [
        (b"UT", b"0.75\\0.5"),
        (b"LO", b"0.75\\0.5"),
        (b"DS", b"0,75\\0,5"),
        (b"FD", np.array([0.75, 0.5]).tobytes()),
        (b"FL", np.array([0.75, 0.5], "<f4").tobytes()),
    ],
)
def test_numbers_are_read_in_any_vr_and_with_decimal_commas(vr: bytes, value: bytes) -> None:
    source = with_value(content(mr_slice()), SPACING, vr, value)
    (series,) = reader.read([source])
    assert series.images.geometry.spacing == (0.75, 0.5)
    (output,) = answer_to(source)
    assert output["PixelSpacing"].VR == "DS"
    assert_allclose(output.PixelSpacing, (0.375, 0.25))


@pytest.mark.parametrize(
    ("tag", "value", "name"),
    [
        (SPACING, b"x\\y", "PixelSpacing"),
        (SPACING, b"1", "2 finite numbers in PixelSpacing, got 1"),
        (POSITION, b"1\\2\\z", "ImagePositionPatient"),
        (0x00280010, b"", "rows and columns"),
    ],
)
def test_a_needed_attribute_that_can_not_be_read_is_named(tag: int, value: bytes, name: str) -> None:
    vr = b"US" if tag >> 16 == 0x28 and tag & 0xFF == 0x10 else b"DS"
    with pytest.raises(UnreadableDicom, match=name):
        reader.read([with_value(content(mr_slice()), tag, vr, value)])


@pytest.mark.parametrize(
    ("keyword", "vr", "value"),
    [("EchoTime", b"DS", b"fast"), ("RepetitionTime", b"DS", b"1\\x"), ("EchoTrainLength", b"IS", b"1.5")],
)
def test_an_attribute_that_is_not_needed_is_left_out_and_named_in_the_notes(
    keyword: str, vr: bytes, value: bytes
) -> None:
    source = with_value(content(mr_slice(EchoTrainLength=1)), tag_for_keyword(keyword), vr, value)
    (series,) = reader.read([source])
    assert series.notes == (f"Header elements that can't be read were left out: {keyword}.",)
    (output,) = answer_to(source)
    assert keyword not in output
    assert_array_equal(series.images.pixels[0], mr_slice().pixel_array)


@pytest.mark.parametrize("texts", [["Abdomen ven", "Axial Ref"], ["a", "b", "c"], ["", "late"]])
def test_a_backslash_in_a_description_is_read_as_one_text(texts: list[str]) -> None:
    (output,) = answer_to(content(mr_slice(SeriesDescription=texts)))
    assert output.SeriesDescription == " ".join([*texts, "AI 2x kdmri"]).strip()


@pytest.mark.parametrize(
    ("charset", "name"),
    [
        ("ISO_IR 192", "Müller^Jörg ".encode("latin-1")),
        ("ISO_IR 192", "山田^太郎 ".encode("shift_jis")),
        ("ISO_IR 100", "Müller^Jörg ".encode()),
    ],
)
def test_names_keep_their_bytes(charset: str, name: bytes) -> None:
    marker = b"A" * len(name)
    source = content(mr_slice(SpecificCharacterSet=charset, PatientName=marker.decode())).replace(marker, name)
    groups = reader.read([source])
    pixels = np.zeros((1, 128, 128), np.float32)
    (output,) = derived.derive(groups, [pixels], scale=2, model="m@1")
    assert name.rstrip() in objects.to_bytes(output)
    assert name.rstrip() in objects.to_bytes(copy.deepcopy(output))


@pytest.mark.parametrize("absent", ["BitsStored", "PixelRepresentation", "HighBit", "SamplesPerPixel"])
def test_absent_bit_counts_are_those_that_other_readers_take(absent: str) -> None:
    whole = mr_slice(PixelRepresentation=0)
    partial = copy.deepcopy(whole)
    del partial[absent]
    (series,) = reader.read([content(partial)])
    assert_array_equal(series.images.pixels, reader.read([content(whole)])[0].images.pixels)
    assert any(absent in note for note in series.notes) == (absent in ("BitsStored", "PixelRepresentation"))


@pytest.mark.parametrize("slope", ["0", "0.0", "-0"])
def test_a_slope_of_0_counts_as_1(slope: str) -> None:
    (series,) = reader.read([content(mr_slice(RescaleSlope=slope, RescaleIntercept="0"))])
    assert_array_equal(series.images.pixels[0], mr_slice().pixel_array)


# --- any element, any VR, any multiplicity ---

KEYWORDS = """
SpecificCharacterSet ImageType StudyDate SeriesTime Modality SeriesDescription PatientName PatientID PatientAge
SliceThickness RepetitionTime EchoTime EchoNumbers SeriesNumber InstanceNumber ImagePositionPatient
ImageOrientationPatient FrameOfReferenceUID StudyInstanceUID SeriesInstanceUID SOPInstanceUID SamplesPerPixel
PhotometricInterpretation NumberOfFrames Rows Columns PixelSpacing BitsAllocated BitsStored HighBit
PixelRepresentation PixelPaddingValue WindowCenter WindowWidth RescaleIntercept RescaleSlope RescaleType
VOILUTFunction ImageComments ContributingEquipmentSequence RealWorldValueMappingSequence LossyImageCompression
""".split()  # noqa: SIM905
VRS = "AE AS CS DA DS DT FD FL IS LO LT OB PN SH SL SQ SS ST TM UI UL UN US UT".split()  # noqa: SIM905
VALUES = st.one_of(
    st.binary(max_size=24),
    st.lists(
        st.sampled_from(["0", "1", "-1", "1e9", "3,5", "nan", "1.2.3", "a", "", "0.5", "99999999999"]), max_size=7
    ).map(lambda texts: "\\".join(texts).encode()),
)


def element(keyword: str, vr: bytes, value: bytes) -> bytes:
    tag = tag_for_keyword(keyword)
    value += b" " * (len(value) % 2)
    is_long = vr in (b"OB", b"SQ", b"UN", b"UT")
    length = bytes(2) + len(value).to_bytes(4, "little") if is_long else len(value).to_bytes(2, "little")
    return (tag >> 16).to_bytes(2, "little") + (tag & 0xFFFF).to_bytes(2, "little") + vr + length + value


def replaced(changes: list[tuple[str, bytes, bytes]]) -> bytes:
    """Return the slice with some elements as raw bytes, wherever the reader then finds them."""
    dataset = mr_slice()
    for keyword, _, _ in changes:
        if keyword in dataset:
            del dataset[keyword]
    whole = content(dataset)
    start = 144 + int.from_bytes(whole[140:144], "little")
    return whole[:start] + b"".join(element(*change) for change in changes) + whole[start:]


@seed(15)
@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(KEYWORDS), st.sampled_from(VRS).map(str.encode), VALUES), min_size=1, max_size=3)
)
def test_any_element_is_answered_or_refused(changes: list[tuple[str, bytes, bytes]]) -> None:
    try:
        outputs = answer_to(replaced(changes))
    except KdmriError:
        return
    assert all(np.isfinite(output.pixel_array).all() for output in outputs)
