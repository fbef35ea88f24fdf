"""What a PACS gets: derived MR objects that say what they are, where they lie and what they were made from."""

import copy
import functools
import io
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from highdicom.legacy import LegacyConvertedEnhancedMRImage
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.testing import assert_allclose, assert_array_equal
from pydicom import Dataset, uid
from pydicom.data import get_testdata_file, get_testdata_files

from kdmri.data.geometry import Geometry
from kdmri.data.images import Images
from kdmri.errors import UnsupportedInput
from kdmri.formats.dicom import derived, objects, original
from kdmri.formats.dicom import reader as dicom
from kdmri.formats.dicom.stored_values import LARGEST
from kdmri.formats.kspace import reader as kspace
from kdmri.physics.resampling import downsample, upsample
from kdmri.runtime import SuperResolver, zero_filled
from tests import shared_data

DATA = shared_data.DATA / "dicom"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=shared_data.ABSENT)
needs_dciodvfy = pytest.mark.skipif(not shutil.which("dciodvfy"), reason="Debian's dicom3tools is not installed")
needs_dcmdump = pytest.mark.skipif(not shutil.which("dcmdump"), reason="Debian's dcmtk is not installed")

SCALE = 2
MODEL = "vdsr-student@1.2.0"
WHEEL = (
    "MR_small.dcm",
    "MR_small_implicit.dcm",
    "MR_small_bigendian.dcm",
    "MR_small_RLE.dcm",
    "MR_small_jp2klossless.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "examples_overlay.dcm",
)
REAL = (
    "t1_series",
    "t1_sagittal_series",
    "ge_phantom_series",
    "enhanced/philips_fieldmap.dcm",
    "enhanced/siemens_xa10.dcm",
)
LOCALIZERS = ("dicomdirtests/98892003/MR1", "dicomdirtests/98892003/MR2", "dicomdirtests/98892003/MR700")
"""Series of several orientations, and so of several groups."""
SOURCES = [*WHEEL, *(pytest.param(name, marks=needs_data) for name in REAL)]


def paths_of(name: str, every: int = 3) -> list[Path]:
    """Instances of a source: every third of a folder of slices."""
    if name in LOCALIZERS:
        return sorted(map(Path, get_testdata_files(f"{name}/*")))
    if name in WHEEL:
        return [Path(str(get_testdata_file(name, download=False)))]
    return sorted((DATA / name).glob("*.dcm"))[::every] if (DATA / name).is_dir() else [DATA / name]


def sharpened(*groups: dicom.DicomSeries, scale: int = SCALE) -> list[Dataset]:
    """Sinc interpolation in the place of a network."""
    pixels = [upsample(torch.from_numpy(group.images.pixels), scale).numpy() for group in groups]
    return derived.derive(groups, pixels, scale=scale, model=MODEL)


@functools.cache
def source_and_answer(name: str) -> tuple[dicom.DicomSeries, tuple[bytes, ...]]:
    (series,) = dicom.read(paths_of(name))
    return series, tuple(objects.to_bytes(output) for output in sharpened(series))


def parsed(content: bytes) -> Dataset:
    return pydicom.dcmread(io.BytesIO(content))


def small(**changes: object) -> Dataset:
    dataset = pydicom.dcmread(paths_of("MR_small.dcm")[0])
    for keyword, value in changes.items():
        setattr(dataset, keyword, value)
    return dataset


def series_of(*datasets: Dataset) -> dicom.DicomSeries:
    (series,) = dicom.read([objects.to_bytes(dataset) for dataset in datasets])
    return series


def read_back(outputs: list[Dataset]) -> dicom.DicomSeries:
    (series,) = dicom.read([objects.to_bytes(output) for output in outputs])
    return series


def complaints(path: Path) -> set[str]:
    """The errors of dciodvfy."""
    ran = subprocess.run(["dciodvfy", path], capture_output=True, text=True, errors="replace", check=False)
    return {line for line in ran.stderr.splitlines() if line.startswith("Error")}


# --- laws that hold for every source ---


@pytest.mark.parametrize("name", SOURCES)
def test_downsampled_again_the_answer_is_the_input(name):
    series, answer = source_and_answer(name)
    (back,) = dicom.read(answer)
    again = downsample(torch.from_numpy(back.images.pixels), SCALE).numpy()
    assert_allclose(again, series.images.pixels, atol=5e-5 * np.abs(series.images.pixels).max())


@pytest.mark.parametrize("name", SOURCES)
def test_the_field_of_view_stays(name):
    series, answer = source_and_answer(name)
    (back,) = dicom.read(answer)
    old, new = series.images.geometry, back.images.geometry
    assert_allclose(np.multiply(new.spacing, SCALE), old.spacing, rtol=1e-9)
    assert_allclose(new.orientation, old.orientation, atol=1e-9)
    assert new.thickness == old.thickness
    step = (np.array(new.spacing) - old.spacing) / 2
    moved = old.positions + old.orientation[0] * step[1] + old.orientation[1] * step[0]
    assert_allclose(new.positions, moved, atol=1e-6)


@pytest.mark.parametrize("name", SOURCES)
def test_each_answer_is_a_new_instance_of_one_new_series_in_the_same_study(name):
    series, answer = source_and_answer(name)
    outputs = [parsed(content) for content in answer]
    sources = {header.SOPInstanceUID for header in series.headers}
    assert len(outputs) == len(series.headers)
    assert len({output.SOPInstanceUID for output in outputs} - sources) == len(outputs)
    assert len({output.SeriesInstanceUID for output in outputs} - {series.headers[0].SeriesInstanceUID}) == 1
    for header, output in zip(series.headers, outputs, strict=True):
        assert output.file_meta.MediaStorageSOPInstanceUID == output.SOPInstanceUID
        for keyword in ("SOPClassUID", "StudyInstanceUID", "FrameOfReferenceUID", "PatientName", "PatientID"):
            assert output.get(keyword) == header.get(keyword)
        for keyword in ("SpecificCharacterSet", "AcquisitionMatrix", "EchoTime", "BurnedInAnnotation", "Manufacturer"):
            assert output.get(keyword) == header.get(keyword)


@pytest.mark.parametrize("name", SOURCES)
def test_the_answer_says_what_it_was_made_from_and_by_what(name):
    series, answer = source_and_answer(name)
    for index, content in enumerate(answer):
        output, header = parsed(content), series.headers[index]
        groups = output.get("PerFrameFunctionalGroupsSequence")
        derivations = [group.DerivationImageSequence[0] for group in groups] if groups else [output]
        numbers = [item.SourceImageSequence[0].get("ReferencedFrameNumber") for item in derivations]
        assert numbers == (list(series.frames[index]) if groups else [None])
        for derivation in derivations:
            (source,) = derivation.SourceImageSequence
            (purpose,) = source.PurposeOfReferenceCodeSequence
            (code,) = derivation.DerivationCodeSequence
            assert source.ReferencedSOPInstanceUID == header.SOPInstanceUID
            assert (purpose.CodeValue, purpose.CodingSchemeDesignator) == ("121322", "DCM")
            assert (code.CodeValue, code.CodingSchemeDesignator) == ("113085", "DCM")
            assert MODEL in derivation.DerivationDescription
            assert "2x" in derivation.DerivationDescription
        equipment = output.ContributingEquipmentSequence[-1]
        assert equipment.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
        assert (equipment.Manufacturer, equipment.ManufacturerModelName) == ("kdmri", "vdsr-student")
        assert output.ImageType[:2] == (["DERIVED", "PRIMARY"] if groups else ["DERIVED", "SECONDARY"])
        assert output.SeriesDescription.endswith("AI 2x kdmri")
        assert "not for diagnosis without review" in output.ImageComments


@pytest.mark.parametrize("name", SOURCES)
def test_a_series_has_one_rescale_and_one_window(name):
    _, answer = source_and_answer(name)
    outputs = [parsed(content) for content in answer]
    shared = [output.get("SharedFunctionalGroupsSequence") for output in outputs]
    rescales = [groups[0].PixelValueTransformationSequence[0] if groups else None for groups in shared]
    windows = [groups[0].FrameVOILUTSequence[0] if groups else None for groups in shared]
    slopes = {(rescale or output).RescaleSlope for rescale, output in zip(rescales, outputs, strict=True)}
    levels = {
        (float((item or output).WindowCenter), float((item or output).WindowWidth))
        for item, output in zip(windows, outputs, strict=True)
    }
    assert len(slopes) == len(levels) == 1
    stored = np.concatenate([output.pixel_array.ravel() for output in outputs])
    assert np.abs(stored).max() == LARGEST
    for output in outputs:
        assert output.SmallestImagePixelValue == output.pixel_array.min()
        assert output.LargestImagePixelValue == output.pixel_array.max()


@needs_dciodvfy
@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("name", [*SOURCES, *LOCALIZERS])
def test_dciodvfy_finds_no_error_that_the_source_did_not_have(name, scale, tmp_path):
    """Every instance at 2x, every third at 4x."""
    paths = paths_of(name, every=scale - 1)
    known = set().union(*map(complaints, paths))
    for output in sharpened(*dicom.read(paths), scale=scale):
        path = tmp_path / "answer.dcm"
        path.write_bytes(objects.to_bytes(output))
        assert complaints(path) <= known


@needs_dcmdump
@pytest.mark.parametrize("name", SOURCES)
def test_dcmtk_reads_the_answer(name, tmp_path):
    _, answer = source_and_answer(name)
    path = tmp_path / "answer.dcm"
    path.write_bytes(answer[0])
    ran = subprocess.run(["dcmdump", "+P", "Rows", "+P", "PixelData", path], capture_output=True, text=True, check=True)
    assert not ran.stderr
    assert str(parsed(answer[0]).Rows) in ran.stdout
    subprocess.run(["dcmconv", "+ti", path, tmp_path / "implicit.dcm"], check=True)
    converted = pydicom.dcmread(tmp_path / "implicit.dcm")
    assert_array_equal(converted.pixel_array, parsed(answer[0]).pixel_array)


@pytest.mark.parametrize(("folder", "series", "objects"), [("MR2", 3, 7), ("MR700", 1, 7)])
def test_slices_of_several_orientations_stay_one_series(folder, series, objects):
    """Localizers of one plane and of three, a maximum intensity projection turned step by step."""
    paths = paths_of(f"dicomdirtests/98892003/{folder}")
    groups = dicom.read(paths)
    assert len(groups) == objects
    outputs = sharpened(*groups)
    sources = [pydicom.dcmread(path) for path in paths]
    members = {output.SeriesInstanceUID: [] for output in outputs}
    for output in outputs:
        members[output.SeriesInstanceUID].append(output)
    assert len(members) == series == len({source.SeriesInstanceUID for source in sources})
    for slices in members.values():
        (of,) = {source.SeriesInstanceUID for source in sources if source.SOPInstanceUID in made_from(slices)}
        assert made_from(slices) == {s.SOPInstanceUID for s in sources if s.SeriesInstanceUID == of}
        assert len({(s.RescaleSlope, s.WindowCenter, s.WindowWidth) for s in slices}) == 1
        assert max(np.abs(s.pixel_array).max() for s in slices) == LARGEST
    assert len({output.SOPInstanceUID for output in outputs}) == objects


def made_from(outputs: list[Dataset]) -> set[str]:
    return {output.SourceImageSequence[0].ReferencedSOPInstanceUID for output in outputs}


# --- position, in millimetres ---


@pytest.mark.parametrize("scale", [2, 4])
def test_a_point_keeps_its_place_in_the_patient(scale):
    rows, columns = np.mgrid[:48, :40]
    blob = np.exp(-((rows - 19.3) ** 2 + (columns - 23.6) ** 2) / 8)
    turn = np.array([[0.8, 0.6, 0.0], [-0.36, 0.48, 0.8]])
    source = small(Rows=48, Columns=40, PixelSpacing=[1.25, 0.75], ImagePositionPatient=[-20.5, 31, 7])
    source.ImageOrientationPatient = turn.ravel().tolist()
    source.PixelData = np.rint(blob * 30000).astype("<i2").tobytes()
    series = series_of(source)
    finer = read_back(sharpened(series, scale=scale))
    assert_allclose(centre_of_mass(finer.images), centre_of_mass(series.images), atol=0.01)


@pytest.mark.parametrize("scale", [2, 4])
def test_a_point_keeps_its_place_through_the_models(scale, models):
    rows, columns = np.mgrid[:48, :40]
    blob = np.exp(-((rows - 19.3) ** 2 + (columns - 23.6) ** 2) / 8)
    source = small(Rows=48, Columns=40, PixelSpacing=[1.25, 0.75], ImagePositionPatient=[-20.5, 31, 7])
    source.PixelData = np.rint(blob * 30000).astype("<i2").tobytes()
    series = series_of(source)
    for role in ("student", "teacher"):
        finer = SuperResolver(models["super-resolution", role]).super_resolve(series.images, scale)
        written = derived.derive([series], [finer.pixels], scale=scale, model=MODEL)
        assert_allclose(centre_of_mass(read_back(written).images), centre_of_mass(series.images), atol=0.01)


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize(("rows", "columns"), [(63, 64), (64, 51), (63, 51), (17, 5)])
def test_odd_sizes_keep_their_pixels_and_their_corners(rows, columns, scale, models):
    """Of an oblique slice of non-square pixels."""
    turn = [0.8, 0.6, 0.0, -0.36, 0.48, 0.8]
    source = small(PixelSpacing=[1.25, 0.75], ImageOrientationPatient=turn)
    source.PixelData = source.pixel_array[:rows, :columns].tobytes()
    source.Rows, source.Columns = rows, columns
    series = series_of(source)
    for role in ("student", "teacher"):
        finer = SuperResolver(models["super-resolution", role]).super_resolve(series.images, scale)
        back = read_back(derived.derive([series], [finer.pixels], scale=scale, model=MODEL)).images
        again = downsample(torch.from_numpy(back.pixels), scale).numpy()
        assert_allclose(again, series.images.pixels, atol=1e-4 * series.images.pixels.max())
        for end in (0, 1):
            assert_allclose(corner(back, end), corner(series.images, end), atol=1e-6)


def corner(images: Images, end: int) -> np.ndarray:
    """The outer corner of the first pixel, or of the last, in patient coordinates (mm)."""
    geometry, shape = images.geometry, images.pixels.shape[1:]
    row, column = (end * length - 0.5 for length in shape)
    along_row, along_column = geometry.orientation
    return geometry.positions[0] + along_row * column * geometry.spacing[1] + along_column * row * geometry.spacing[0]


def centre_of_mass(images: Images) -> np.ndarray:
    """Of the first slice, in patient coordinates (mm)."""
    weights = images.pixels[0].astype(float) / images.pixels[0].sum(dtype=float)
    row, column = (float((weights * index).sum()) for index in np.indices(weights.shape))
    geometry = images.geometry
    along_row, along_column = geometry.orientation
    return geometry.positions[0] + along_row * column * geometry.spacing[1] + along_column * row * geometry.spacing[0]


# --- grey levels ---


@settings(max_examples=50, deadline=None)
@given(
    arrays(np.float32, array_shapes(min_dims=3, max_dims=3, max_side=4), elements=st.floats(-1, 1, width=32)),
    st.floats(-30, 30),
)
def test_pixels_come_back_to_half_a_step(pixels, exponent):
    pixels = (pixels * 10.0**exponent).astype(np.float32)
    back = read_back(original.create(Images(pixels), model=MODEL)).images.pixels
    assert_allclose(back, pixels, atol=np.abs(pixels).max() / LARGEST * 0.5001 + 1e-44)


def test_overshoot_stays_negative():
    edge = np.zeros((16, 16), "<i2")
    edge[:, 8:] = 1000
    back = read_back(sharpened(series_of(small(Rows=16, Columns=16, PixelData=edge.tobytes()))))
    assert back.images.pixels.min() < -50
    assert back.images.pixels.max() > 1050


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_not_finite_are_refused(bad):
    pixels = np.zeros((1, 4, 4), np.float32)
    pixels[0, 1, 1] = bad
    with pytest.raises(UnsupportedInput, match="expected finite pixels"):
        original.create(Images(pixels), model=MODEL)


def test_more_rows_than_dicom_can_say_are_refused():
    with pytest.raises(UnsupportedInput, match="expected an answer of at most 65535 rows and columns"):
        original.create(Images(np.zeros((1, 2**16, 1), np.float32)), model=MODEL)


def test_an_empty_image_stays_empty():
    back = read_back(original.create(Images(np.zeros((1, 8, 8), np.float32)), model=MODEL))
    assert_array_equal(back.images.pixels, 0)


def test_the_window_is_the_median_of_the_sources():
    slices = [small(WindowCenter=center, WindowWidth=width) for center, width in ((100, 200), (200, 300), (150, 260))]
    output = sharpened(series_of(*slices))[0]
    low, high = 20, 280  # medians of 0, 50, 20 and of 200, 350, 280
    assert (float(output.WindowCenter), float(output.WindowWidth)) == ((low + high) / 2, high - low)


def test_without_a_window_robust_percentiles_are_shown():
    source = small()
    del source.WindowCenter
    series = series_of(source)
    output = sharpened(series)[0]
    bright = np.percentile(series.images.pixels, 99.5)
    assert float(output.WindowCenter) + float(output.WindowWidth) / 2 == pytest.approx(bright, rel=0.05)


def test_monochrome1_is_answered_as_monochrome2():
    series = series_of(small(PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="INVERSE"))
    outputs = sharpened(series)
    assert (outputs[0].PhotometricInterpretation, outputs[0].PresentationLUTShape) == ("MONOCHROME2", "IDENTITY")
    again = downsample(torch.from_numpy(read_back(outputs).images.pixels), SCALE).numpy()
    assert_allclose(again, series.images.pixels, atol=5e-5 * np.abs(series.images.pixels).max())


# --- what is carried and what is dropped ---


def test_what_describes_the_old_pixels_is_dropped():
    (series,) = dicom.read(paths_of("examples_overlay.dcm"))
    header = series.headers[0]
    assert "IconImageSequence" in header
    assert any(element.tag.group >> 8 == 0x60 for element in header)
    header.private_block(0x29, "SIEMENS CSA HEADER", create=True).add_new(0x10, "OB", b"rows and columns")
    output = parsed(objects.to_bytes(sharpened(series)[0]))
    assert "IconImageSequence" not in output
    assert not any(element.tag.group >> 8 == 0x60 or element.tag.is_private for element in output)


@pytest.mark.parametrize(
    ("group", "creator", "offset", "vr", "value", "other"),
    [
        (0x19, "SIEMENS MR HEADER", 0x0C, "IS", 1000, 0x08),
        (0x43, "GEMS_PARM_01", 0x39, "IS", [1000000800, 8, 0, 0], 0x2A),
        (0x2001, "Philips Imaging DD 001", 0x03, "FL", 700.0, 0x0A),
    ],
)
def test_diffusion_weighting_that_stands_in_private_is_carried(group, creator, offset, vr, value, other):
    source = small()
    block = source.private_block(group, creator, create=True)
    block.add_new(offset, vr, value)
    block.add_new(other, "LO", "of the old pixels")
    output = parsed(objects.to_bytes(sharpened(series_of(source))[0]))
    carried = output.private_block(group, creator)
    assert carried[offset].value == value
    assert other not in carried


def test_slices_of_many_b_values_stay_in_order():
    series = series_of(*(small(DiffusionBValue=float(b), InstanceNumber=n) for n, b in enumerate((0, 1000, 0, 2000))))
    assert [output.DiffusionBValue for output in sharpened(series)] == [0, 1000, 0, 2000]


@pytest.mark.parametrize(("charset", "name"), [("ISO_IR 100", "Müller^Jörg"), ("ISO_IR 192", "山田^太郎")])
def test_names_keep_their_letters(charset, name):
    output = parsed(objects.to_bytes(sharpened(series_of(small(SpecificCharacterSet=charset, PatientName=name)))[0]))
    assert output.SpecificCharacterSet == charset
    assert str(output.PatientName) == name


def test_a_long_series_description_keeps_its_suffix():
    output = sharpened(series_of(small(SeriesDescription="s" * 64)))[0]
    assert output.SeriesDescription == "s" * 52 + " AI 2x kdmri"


def test_lossy_compression_and_comments_are_carried():
    source = small(LossyImageCompression="01", LossyImageCompressionRatio=[8], ImageComments="moved at the end")
    output = sharpened(series_of(source))[0]
    assert (output.LossyImageCompression, output.LossyImageCompressionRatio) == ("01", 8)
    assert output.ImageComments == f"{objects.NOTICE}\r\nmoved at the end"


def test_equipment_that_contributed_before_is_kept():
    twice = sharpened(series_of(*sharpened(series_of(small()))))[0]
    assert [item.Manufacturer for item in twice.ContributingEquipmentSequence] == ["kdmri", "kdmri"]
    assert twice.SeriesDescription.count("AI 2x kdmri") == 2


def test_a_source_without_a_plane_is_answered_without_one():
    source = small()
    del source.ImagePositionPatient
    output = sharpened(series_of(source))[0]
    assert "ImagePositionPatient" not in output
    assert_allclose(np.multiply(output.PixelSpacing, SCALE), source.PixelSpacing)


@pytest.mark.parametrize("name", SOURCES)
def test_the_source_is_left_as_it_was(name):
    (series,) = dicom.read(paths_of(name))
    before = copy.deepcopy(series.headers)
    sharpened(series)
    assert series.headers == before


def test_pixels_of_another_size_are_a_mistake():
    series = series_of(small())
    with pytest.raises(ValueError, match=r"expected pixels \(1, 128, 128\), got \(1, 64, 64\)"):
        derived.derive([series], [series.images.pixels], scale=2, model=MODEL)


# --- Enhanced MR ---


@needs_data
def test_enhanced_objects_of_one_series_stay_one_series():
    source = pydicom.dcmread(DATA / "enhanced" / "siemens_xa10.dcm")
    later = pydicom.dcmread(DATA / "enhanced" / "siemens_xa10.dcm")
    later.SOPInstanceUID = uid.generate_uid()
    outputs = sharpened(series_of(source, later))
    assert [output.NumberOfFrames for output in outputs] == [6, 6]
    assert len({output.SeriesInstanceUID for output in outputs}) == 1


@needs_data
def test_the_types_of_an_enhanced_answer_sum_up_those_of_its_frames():
    _, (content,) = source_and_answer("enhanced/philips_fieldmap.dcm")
    output = parsed(content)
    assert output.ImageType == ["DERIVED", "PRIMARY", "T1", "M"]
    assert output.ComplexImageComponent == "MAGNITUDE"
    # Two of the four dimensions pointed at private elements.
    contents = [groups.FrameContentSequence[0] for groups in output.PerFrameFunctionalGroupsSequence]
    assert len(output.DimensionIndexSequence) == 2
    assert [list(content.DimensionIndexValues) for content in contents] == [[1, place] for place in range(1, 33)]


@needs_data
def test_legacy_converted_enhanced_mr_is_worked_on_like_its_slices():
    paths = paths_of("ge_phantom_series")
    legacy = LegacyConvertedEnhancedMRImage(
        [pydicom.dcmread(path) for path in paths], uid.generate_uid(), 1, uid.generate_uid(), 1
    )
    series = series_of(legacy)
    assert_allclose(np.sort(series.images.geometry.positions[:, 2]), np.sort([parsed_z(path) for path in paths]))
    back = read_back(sharpened(series))
    assert back.images.pixels.shape == (len(paths), 512, 512)


def parsed_z(path: Path) -> float:
    return float(pydicom.dcmread(path, stop_before_pixels=True).ImagePositionPatient[2])


# --- reconstructed ---


def oblique(slices: int) -> Geometry:
    orientation = np.array([[0.8, 0.6, 0.0], [-0.36, 0.48, 0.8]])
    normal = np.cross(*orientation)
    return Geometry(np.array([-100.5, 20, 3]) + normal * 4 * np.arange(slices)[:, None], orientation, (1.1, 0.9), 3.5)


SIZES = Geometry.from_sizes(3, (30, 41), (1.1, 0.9), 3.5)


@pytest.mark.parametrize("geometry", [oblique(3), SIZES, None], ids=["placed", "sizes", "none"])
def test_a_reconstruction_is_a_new_study_without_complaint(geometry, tmp_path):
    pixels = np.random.default_rng(0).random((3, 30, 41), np.float32) * 1e-6
    outputs = original.create(Images(pixels, geometry), model=MODEL, acceleration=4.2)
    assert len({output.StudyInstanceUID for output in outputs}) == 1
    assert len({output.SOPInstanceUID for output in outputs}) == 3
    assert [output.InstanceNumber for output in outputs] == [1, 2, 3]
    for output in outputs:
        path = tmp_path / "output.dcm"
        path.write_bytes(objects.to_bytes(output))
        assert output.PatientName == "Anonymous"
        assert "(acceleration 4.2)" in output.ContributingEquipmentSequence[0].ContributionDescription
        assert ("made up" in output.ImageComments) == (geometry is None or not geometry.placed)
        assert ("pixel size" in output.ImageComments) == (geometry is None)
        assert_allclose(output.PixelSpacing, geometry.spacing if geometry else (1, 1))
        if shutil.which("dciodvfy"):
            assert not complaints(path)


def test_a_reconstruction_keeps_its_geometry():
    geometry = oblique(3)
    back = read_back(original.create(Images(np.ones((3, 8, 8), np.float32), geometry), model=MODEL))
    assert_allclose(back.images.geometry.positions, geometry.positions, atol=1e-9)
    assert_allclose(back.images.geometry.orientation, geometry.orientation, atol=1e-9)
    assert back.images.geometry.spacing == geometry.spacing
    assert back.images.geometry.thickness == geometry.thickness


def test_bytes_are_a_part_10_file_in_explicit_little_endian():
    (output,) = sharpened(dicom.read(paths_of("MR_small_bigendian.dcm"))[0])
    content = objects.to_bytes(output)
    assert content[128:132] == b"DICM"
    assert parsed(content).file_meta.TransferSyntaxUID == uid.ExplicitVRLittleEndian


KSPACE = (
    "brain_sagittal_1ch.h5",
    "brain_16ch.h5",
    "brain_16ch.mrd.h5",
    "brain_16ch_r4.mrd.h5",
    "brain_8ch_vd2d.h5",
    "phantom_32ch.h5",
    "phantom_grappa_16ch.mrd.h5",
)


@needs_dciodvfy
@pytest.mark.parametrize("name", KSPACE)
def test_a_real_scan_is_answered_without_complaint(name, data, tmp_path):
    scan = kspace.read(data / "kspace" / name)
    outputs = original.create(
        zero_filled(scan), model=MODEL, patient_and_study=scan.patient_and_study, acceleration=scan.acceleration
    )
    for output in outputs:
        (tmp_path / "answer.dcm").write_bytes(objects.to_bytes(output))
        assert not complaints(tmp_path / "answer.dcm")
    assert read_back(outputs).images.pixels.shape[1:] == scan.image_shape
