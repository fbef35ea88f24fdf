"""Padding, windows and physical quantities: what stored values meant before, the answer's mean again."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from pydicom import Dataset

from kdmri.formats.dicom import reader

from .slices import answer_to, content, mr_slice

PHILIPS = Path(__file__).parents[3].parent / "shared" / "data" / "dicom" / "enhanced" / "philips_fieldmap.dcm"
HOLE = np.zeros((64, 64), bool)
HOLE[:, :9] = HOLE[50:, 40:] = True


@pytest.mark.parametrize(
    ("bits", "signed", "value", "vr", "limit"),
    [
        (16, 1, -2000, "SS", None),
        (16, 1, 63536, "US", None),
        (16, 0, 63536, "US", None),
        (12, 0, 4095, "US", None),
        (16, 1, -2000, "SS", -1000),
        (16, 1, -1000, "SS", -2000),
    ],
)
def test_padding_becomes_background_and_padding_again(
    bits: int, signed: int, value: int, vr: str, limit: int | None
) -> None:
    plain = mr_slice(BitsStored=bits, HighBit=bits - 1, PixelRepresentation=signed)
    pixels = plain.pixel_array.astype("<u2")
    pixels[HOLE] = 0
    plain.PixelData = pixels.tobytes()
    pixels[HOLE] = value & 0xFFFF
    padded = mr_slice(BitsStored=bits, HighBit=bits - 1, PixelRepresentation=signed, PixelData=pixels.tobytes())
    padded.add_new("PixelPaddingValue", vr, value)
    if limit is not None:
        padded.add_new("PixelPaddingRangeLimit", vr, limit)
    (series,) = reader.read([content(padded)])
    assert_array_equal(series.images.pixels, reader.read([content(plain)])[0].images.pixels)
    assert_array_equal(series.padding[0], HOLE)
    (output,) = answer_to(content(padded))
    assert_array_equal(output.pixel_array == output.PixelPaddingValue, HOLE.repeat(2, 0).repeat(2, 1))


def test_without_padding_no_padding_is_written() -> None:
    source = mr_slice()
    source.add_new("PixelPaddingValue", "SS", -2000)
    (output,) = answer_to(content(source))
    assert "PixelPaddingValue" not in output


@pytest.mark.parametrize(("center", "width"), [("1000", "500"), ("100", "40"), ("2000", "4000")])
@pytest.mark.parametrize(("slope", "intercept"), [("1", "0"), ("2", "-50"), ("0.5", "10")])
def test_windows_turn_with_monochrome1(center: str, width: str, slope: str, intercept: str) -> None:
    """A pixel that the source shows at some share between white and black is shown at the same share."""
    changes = {"RescaleSlope": slope, "RescaleIntercept": intercept, "WindowCenter": center, "WindowWidth": width}
    source = mr_slice(
        PhotometricInterpretation="MONOCHROME1", BitsStored=12, HighBit=11, PixelRepresentation=0, **changes
    )
    (output,) = answer_to(content(source))
    stored = 700
    shown = 1 - (stored * float(slope) + float(intercept) - float(center)) / float(width)
    value = (4095 - stored) * float(slope) + float(intercept)
    assert 1 + (value - float(output.WindowCenter)) / float(output.WindowWidth) == pytest.approx(shown, abs=1e-6)


@pytest.mark.parametrize("function", ["SIGMOID", "LINEAR_EXACT", "LINEAR"])
def test_the_voi_lut_function_is_carried(function: str) -> None:
    (output,) = answer_to(content(mr_slice(VOILUTFunction=function)))
    assert output.VOILUTFunction == function


@pytest.mark.parametrize("unit", ["normalized", "ms", "US"])
def test_the_rescale_type_survives(unit: str) -> None:
    (output,) = answer_to(content(mr_slice(RescaleSlope="2", RescaleIntercept="0", RescaleType=unit)))
    assert output.RescaleType == unit


@pytest.mark.parametrize(("slope", "scale"), [("1.5", 0.00151), ("1", 2.5), ("0.25", 7e-5)])
def test_philips_floating_point_values_survive(slope: str, scale: float) -> None:
    source = mr_slice(RescaleSlope=slope, RescaleIntercept="0")
    source.private_block(0x2005, "Philips MR Imaging DD 001", create=True).add_new(0x0E, "FL", scale)
    (output,) = answer_to(content(source))
    factor = float(output.RescaleSlope) * output.private_block(0x2005, "Philips MR Imaging DD 001")[0x0E].value
    assert factor == pytest.approx(float(slope) * scale, rel=1e-6)


@pytest.mark.parametrize(("slope", "intercept"), [("1", "0"), ("2", "-100"), ("0.5", "30")])
@pytest.mark.parametrize(("weight", "offset"), [(12.5, 0.0), (-0.01, 4.0)])
@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
def test_real_world_values_survive(slope: str, intercept: str, weight: float, offset: float, photometric: str) -> None:
    source = mr_slice(RescaleSlope=slope, RescaleIntercept=intercept, PhotometricInterpretation=photometric)
    source.BitsStored, source.HighBit, source.PixelRepresentation = 12, 11, 0
    source.PixelData = np.full((64, 64), 700, "<u2").tobytes()
    mapping = Dataset()
    mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept, mapping.LUTLabel = weight, offset, "T1"
    mapping.add_new(0x00409216, "US", 0)
    mapping.add_new(0x00409211, "US", 4095)
    source.RealWorldValueMappingSequence = [mapping]
    (output,) = answer_to(content(source))
    (item,) = output.RealWorldValueMappingSequence
    values = output.pixel_array * item.RealWorldValueSlope + item.RealWorldValueIntercept
    assert_allclose(values, 700 * weight + offset, rtol=1e-3)
    assert item.LUTLabel == "T1"


@pytest.mark.parametrize("scale_slope", [8.5e-6, 0.25, 3.0])
@pytest.mark.skipif(not PHILIPS.exists(), reason="../shared is absent")
def test_the_scale_slope_of_real_enhanced_frames_survives(scale_slope: float) -> None:
    """Philips' floating point value is stored value x RescaleSlope / (RescaleSlope x scale slope)."""
    source = pydicom.dcmread(PHILIPS)
    for groups in source.PerFrameFunctionalGroupsSequence:
        groups[0x2005140F].value[0][0x2005100E].value = scale_slope
    (output,) = answer_to(content(source))
    old = source.PerFrameFunctionalGroupsSequence[0].PixelValueTransformationSequence[0].RescaleSlope
    new = output.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence[0].RescaleSlope
    for groups in output.PerFrameFunctionalGroupsSequence:
        assert groups[0x20050010].value == "Philips MR Imaging DD 005"
        item = groups[0x2005100F].value[0]
        # A modality value has the same quantity in both: the products of the two slopes agree.
        assert item[0x2005100E].value * new == pytest.approx(scale_slope * old, rel=1e-6)


@pytest.mark.parametrize(
    ("terms", "unit", "name"),
    [
        (["DERIVED", "PRIMARY", "DIFFUSION", "ADC", "ND"], "mm2/s", "ADC"),
        (["DERIVED", "PRIMARY", "M", "T1 MAP"], "ms", "T1 MAP"),
        (["DERIVED", "PRIMARY", "M", "T2_STAR_MAP"], "ms", "T2 STAR MAP"),
    ],
)
def test_maps_keep_their_unit_and_are_noted(terms: list[str], unit: str, name: str) -> None:
    source = content(mr_slice(ImageType=terms, RescaleType=unit, RescaleSlope="0.5", RescaleIntercept="0"))
    (series,) = reader.read([source])
    assert series.notes[0].startswith(f"Maps of a quantity ({name}) were refined like grey levels")
    (output,) = answer_to(source)
    assert output.RescaleType == unit
    values = output.pixel_array * float(output.RescaleSlope)
    assert np.mean(values) == pytest.approx(np.mean(series.images.pixels), rel=1e-3)
