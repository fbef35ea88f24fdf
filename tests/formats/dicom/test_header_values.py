"""Header values that are readable yet can't be written, in another VR, absent or damaged: an answer, or their name."""

import copy
import struct

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from pydicom.datadict import tag_for_keyword

from kdmri.errors import UnreadableDicom
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


# --- several values where one is read ---

SEVERAL = {
    "EchoTrainLength": (b"IS", b"1\\2 "),
    "SeriesNumber": (b"IS", b"3\\4 "),
    "RescaleType": (b"LO", b"US\\HU "),
    "PresentationLUTShape": (b"CS", b"IDENTITY\\INVERSE"),
    "EchoTime": (b"DS", b"10\\20 "),
}
REFUSED = {
    "Rows": (b"US", struct.pack("<2H", 64, 64)),
    "BitsStored": (b"US", struct.pack("<2H", 16, 12)),
    "RescaleSlope": (b"DS", b"1\\2 "),
    "SeriesInstanceUID": (b"UI", b"1.2\\1.3"),
    "PhotometricInterpretation": (b"CS", b"MONOCHROME2\\RGB"),
}


@pytest.mark.parametrize("keyword", SEVERAL)
def test_of_several_values_the_first_is_kept_with_a_note(keyword: str) -> None:
    vr, value = SEVERAL[keyword]
    source = with_element(keyword, vr, value)
    (series,) = reader.read([source])
    if keyword != "RescaleType":
        note = "Header elements with several values where one is expected keep the first"
        assert series.notes == (f"{note}: {keyword}.",)
        assert str(series.headers[0][keyword].value) == value.decode().split("\\")[0]
    (output,) = answer_to(source)
    assert output.SeriesNumber == (301 if keyword == "SeriesNumber" else 101)


@pytest.mark.parametrize("keyword", REFUSED)
def test_several_values_of_a_needed_attribute_are_refused_by_name(keyword: str) -> None:
    with pytest.raises(UnreadableDicom, match=f"expected one value in {keyword}, got"):
        reader.read([with_element(keyword, *REFUSED[keyword])])


def with_element(keyword: str, vr: bytes, value: bytes) -> bytes:
    """Return the slice with an element as raw bytes, which the reader finds before the others."""
    dataset = mr_slice()
    dataset.pop(keyword, None)
    whole = content(dataset)
    start = 144 + int.from_bytes(whole[140:144], "little")
    tag = tag_for_keyword(keyword)
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr + struct.pack("<H", len(value))
    return whole[:start] + head + value + whole[start:]
