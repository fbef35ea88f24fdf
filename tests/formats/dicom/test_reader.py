"""What comes out of MR DICOM, by whatever scanner, syntax and packing, and what is refused with which sentence."""

import copy
import io
import shutil
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from pydicom import Dataset, uid
from pydicom.data import get_testdata_file, get_testdata_files
from pydicom.encaps import encapsulate, generate_frames

from kdmri.errors import KdmriError, UnreadableDicom, UnsupportedInput
from kdmri.formats.dicom import reader as dicom
from tests import shared_data

DATA = shared_data.DATA / "dicom"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=shared_data.ABSENT)

SMALL = sorted(map(Path, get_testdata_files("MR_small*.dcm")))
"""The 64 x 64 MR image of pydicom's wheel, in all of the transfer syntaxes that it has there."""
# kdmri silences these in a process of its own; pytest sets the filters anew for each test.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
quick = settings(max_examples=60, deadline=None)


def wheel(name: str) -> Path:
    """A file of pydicom's own wheel."""
    return Path(str(get_testdata_file(name, download=False)))


def small(**changes: object) -> Dataset:
    """pydicom's 64 x 64 MR image with some elements changed, or taken out where None."""
    dataset = pydicom.dcmread(wheel("MR_small.dcm"))
    for keyword, value in changes.items():
        if value is None:
            del dataset[keyword]
        else:
            setattr(dataset, keyword, value)
    return dataset


def written(dataset: Dataset) -> bytes:
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def zipped(members: dict[str, bytes]) -> io.BytesIO:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer


def only(sources: list[bytes | Path]) -> dicom.DicomSeries:
    (series,) = dicom.read(sources)
    return series


# --- pixels ---


@pytest.mark.parametrize("path", SMALL, ids=lambda path: path.stem)
def test_every_transfer_syntax_gives_the_same_picture(path):
    truth = pydicom.dcmread(wheel("MR_small.dcm")).pixel_array
    series = only([path])
    assert series.images.pixels.dtype == np.float32
    assert_array_equal(series.images.pixels, truth[None])


def test_every_small_file_of_the_wheel_was_tried():
    assert {pydicom.dcmread(path).file_meta.TransferSyntaxUID for path in SMALL} == {
        uid.ExplicitVRLittleEndian,
        uid.ImplicitVRLittleEndian,
        uid.ExplicitVRBigEndian,
        uid.RLELossless,
        uid.JPEG2000Lossless,
        uid.JPEGLSLossless,
    }
    assert len(SMALL) == 8


def test_a_deflated_data_set_gives_the_same_picture():
    dataset = small()
    dataset.file_meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian
    assert_array_equal(only([written(dataset)]).images.pixels[0], small().pixel_array)


@pytest.mark.skipif(not shutil.which("dcmcjpeg"), reason="dcmtk is not installed")
@pytest.mark.parametrize("process", ["--encode-lossless", "--encode-lossless-sv1"])
def test_lossless_jpeg_gives_the_same_picture(process, tmp_path):
    source = wheel("examples_overlay.dcm")
    subprocess.run(["dcmcjpeg", process, "--true-lossless", source, tmp_path / "jpeg.dcm"], check=True)
    assert_array_equal(only([tmp_path / "jpeg.dcm"]).images.pixels, only([source]).images.pixels)


@pytest.mark.skipif(not shutil.which("dcmcjpeg"), reason="dcmtk is not installed")
@pytest.mark.parametrize(
    ("command", "syntax"),
    [
        (["dcmcjpeg", "--encode-baseline"], uid.JPEGBaseline8Bit),
        (["dcmcjpeg", "--encode-extended"], uid.JPEGExtended12Bit),
        (["dcmcjpls", "--encode-nearlossless"], uid.JPEGLSNearLossless),
    ],
)
def test_lossy_jpeg_gives_nearly_the_same_picture(command, syntax, tmp_path):
    source = wheel("examples_overlay.dcm")
    subprocess.run([*command, source, tmp_path / "lossy.dcm"], check=True)
    series = only([tmp_path / "lossy.dcm"])
    assert series.headers[0].file_meta.TransferSyntaxUID == syntax
    plain = only([source]).images.pixels
    assert np.corrcoef(series.images.pixels.ravel(), plain.ravel())[0, 1] > 0.998


def test_lossy_jpeg_2000_gives_nearly_the_same_picture():
    dataset = small()
    dataset.compress(uid.JPEG2000, j2k_cr=[8], generate_instance_uid=False)
    plain = small().pixel_array
    assert_allclose(only([written(dataset)]).images.pixels[0], plain, atol=0.06 * plain.max())


@pytest.mark.skipif(not shutil.which("ojph_compress"), reason="Debian's openjph-tools is not installed")
@pytest.mark.parametrize(
    ("syntax", "options", "tolerance"),
    [
        (uid.HTJ2KLossless, ["-reversible", "true"], 0),
        (uid.HTJ2KLosslessRPCL, ["-reversible", "true", "-prog_order", "RPCL"], 0),
        (uid.HTJ2K, ["-reversible", "false", "-qstep", "0.0001"], 0.01),
    ],
)
def test_high_throughput_jpeg_2000_gives_the_same_picture(syntax, options, tolerance, tmp_path):
    dataset = small(PixelRepresentation=0)
    plain = dataset.pixel_array
    (tmp_path / "plain.pgm").write_bytes(b"P5 64 64 65535\n" + plain.astype(">u2").tobytes())
    files = ["-i", tmp_path / "plain.pgm", "-o", tmp_path / "coded.j2c"]
    subprocess.run(["ojph_compress", *files, *options], check=True, capture_output=True)
    dataset.PixelData = encapsulate([(tmp_path / "coded.j2c").read_bytes()])
    dataset.file_meta.TransferSyntaxUID = syntax
    assert_allclose(only([written(dataset)]).images.pixels[0], plain, atol=tolerance * plain.max())


def test_bytes_open_files_and_paths_are_the_same():
    path = wheel("MR_small.dcm")
    with path.open("rb") as file:
        pictures = [only([source]).images.pixels for source in (path, path.read_bytes(), file)]
    assert_array_equal(pictures[0], pictures[1])
    assert_array_equal(pictures[0], pictures[2])


def test_a_data_set_without_preamble_and_meta_information_is_read():
    whole = wheel("MR_small.dcm").read_bytes()
    meta = 144 + int.from_bytes(whole[140:144], "little")
    assert_array_equal(only([whole[meta:]]).images.pixels, only([whole]).images.pixels)
    assert_array_equal(only([whole[132:]]).images.pixels, only([whole]).images.pixels)


@quick
@given(data=st.data(), allocated=st.sampled_from([8, 16, 32]), signed=st.booleans())
def test_only_the_stored_bits_count(data, allocated, signed):
    bits = data.draw(st.integers(2, allocated))
    high = data.draw(st.integers(bits - 1, allocated - 1))
    cells = data.draw(st.lists(st.integers(0, 2**allocated - 1), min_size=6, max_size=6))
    dataset = small(BitsAllocated=allocated, BitsStored=bits, HighBit=high, PixelRepresentation=int(signed))
    dataset.Rows, dataset.Columns = 2, 3
    dataset.PixelData = np.array(cells, f"<u{allocated // 8}").tobytes()

    digits = [f"{cell:0{allocated}b}"[allocated - 1 - high :][:bits] for cell in cells]
    values = [int(text, 2) - (2**bits if signed and text[0] == "1" else 0) for text in digits]
    assert_array_equal(only([written(dataset)]).images.pixels.ravel(), np.array(values, np.float32))


@needs_data
def test_junk_above_twelve_bits_is_dropped_from_signed_and_unsigned_pixels(tmp_path):
    folder = tmp_path
    for path in (DATA / "signed_12bit").glob("*.dcm"):
        tiled = pydicom.dcmread(path)  # These are mosaics; here they stand for one slice with junk in its bits.
        tiled.ImageType = tiled.ImageType[:-1]
        tiled.remove_private_tags()
        tiled.save_as(tmp_path / path.name)
    cells = np.frombuffer(pydicom.dcmread(folder / "12bitUnsigned_0x0F0F.dcm").PixelData, "<u2").reshape(1, 384, 384)
    assert cells.max() == 0xFFFF
    assert_array_equal(only([folder / "12bitUnsigned_0x0F0F.dcm"]).images.pixels, cells & 0xFFF)
    signed = only([folder / "12bitSigned_0x0F0F.dcm"]).images.pixels
    assert_array_equal(signed, (cells << 4).view("<i2") >> 4)
    assert signed.min() < 0


@quick
@given(st.floats(1e-6, 1e6), st.floats(-1e6, 1e6))
def test_pixels_are_in_modality_units(slope, intercept):
    dataset = small()
    dataset.add_new("RescaleSlope", "DS", f"{slope:.9g}")
    dataset.add_new("RescaleIntercept", "DS", f"{intercept:.8g}")
    expected = dataset.pixel_array * float(f"{slope:.9g}") + float(f"{intercept:.8g}")
    assert_allclose(only([written(dataset)]).images.pixels[0], expected, rtol=1e-6)


@pytest.mark.parametrize("signed", [0, 1])
def test_monochrome1_is_turned_round(signed):
    dataset = small(PhotometricInterpretation="MONOCHROME1", PixelRepresentation=signed, BitsStored=12, HighBit=11)
    bright = only([written(small(PixelRepresentation=signed, BitsStored=12, HighBit=11))]).images.pixels
    turned = only([written(dataset)]).images.pixels
    assert_array_equal(turned + bright, np.full_like(bright, -1 if signed else 4095))


# --- geometry and grouping ---


def test_geometry_is_that_of_the_header():
    series = only([wheel("MR_small.dcm")])
    header = small()
    geometry = series.images.geometry
    assert_allclose(geometry.positions[0], header.ImagePositionPatient)
    assert_allclose(geometry.orientation.ravel(), header.ImageOrientationPatient)
    assert geometry.spacing == tuple(header.PixelSpacing)
    assert geometry.thickness == header.SliceThickness


@needs_data
@pytest.mark.parametrize(
    ("folder", "shape"),
    [
        ("t1_series", (12, 384, 274)),
        ("t1_sagittal_series", (16, 256, 256)),
        ("ge_phantom_series", (12, 256, 256)),  # the direction cosines differ by 1e-8 from slice to slice
    ],
)
def test_a_folder_of_slices_is_one_series_in_the_order_given(folder, shape):
    paths = sorted((DATA / folder).glob("*.dcm"))[::-1]
    series = only(paths)
    assert series.images.pixels.shape == shape
    assert [header.InstanceNumber for header in series.headers] == [pydicom.dcmread(p).InstanceNumber for p in paths]
    assert_allclose(series.images.geometry.positions, [header.ImagePositionPatient for header in series.headers])
    assert not any("PixelData" in header for header in series.headers)


def test_non_square_pixels_keep_row_spacing_first():
    geometry = only([written(small(PixelSpacing=[0.5, 0.75]))]).images.geometry
    assert geometry.spacing == (0.5, 0.75)


@pytest.mark.parametrize(
    "change",
    [
        {"SeriesInstanceUID": "1.2.3"},
        {"Rows": 32, "PixelData": bytes(32 * 64 * 2)},
        {"PixelSpacing": [0.5, 0.5]},
        {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]},
        {"ImagePositionPatient": None},
    ],
)
def test_what_can_not_stand_in_one_stack_is_grouped(change):
    sources = [written(small(InstanceNumber=n, **(change if n > 2 else {}))) for n in (1, 3, 2, 4)]
    groups = dicom.read(sources)
    assert [[header.InstanceNumber for header in series.headers] for series in groups] == [[1, 2], [3, 4]]


@pytest.mark.parametrize("keyword", ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"])
def test_a_slice_without_its_plane_has_no_geometry(keyword):
    series = only([written(small(**{keyword: None}))])
    assert series.images.geometry is None


# --- Enhanced MR ---


@needs_data
def test_enhanced_frames_have_their_own_planes_and_share_a_header():
    series = only([DATA / "enhanced" / "siemens_xa10.dcm"])
    assert series.images.pixels.shape == (6, 64, 64)
    assert len(series.headers) == 1
    heights = series.images.geometry.positions[:, 2]
    assert_allclose(np.diff(heights), 2.4, atol=1e-3)


@needs_data
def test_of_an_enhanced_image_with_a_field_map_the_magnitude_frames_are_taken():
    path = DATA / "enhanced" / "philips_fieldmap.dcm"
    series = only([path])
    source = pydicom.dcmread(path)
    slope = float(source.PerFrameFunctionalGroupsSequence[0].PixelValueTransformationSequence[0].RescaleSlope)
    assert series.frames == (tuple(range(1, 33)),)
    assert len(series.headers[0].PerFrameFunctionalGroupsSequence) == series.headers[0].NumberOfFrames == 32
    assert_allclose(series.images.pixels, source.pixel_array[:32] * slope, rtol=1e-6)


@needs_data
def test_enhanced_frames_of_two_orientations_are_two_series():
    source = pydicom.dcmread(DATA / "enhanced" / "siemens_xa10.dcm")
    turned = source.PerFrameFunctionalGroupsSequence[1].PlaneOrientationSequence[0]
    turned.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    first, second = dicom.read([written(source)])
    assert (first.frames, second.frames) == (((1, 3, 4, 5, 6),), ((2,),))
    assert_array_equal(second.images.pixels[0], source.pixel_array[1])


@needs_data
def test_frames_that_are_not_described_are_refused():
    source = pydicom.dcmread(DATA / "enhanced" / "siemens_xa10.dcm")
    del source.PerFrameFunctionalGroupsSequence[5]
    with pytest.raises(UnsupportedInput, match="expected as many frames as are described, 5, got 6"):
        dicom.read([written(source)])


# --- refusals ---


@pytest.mark.parametrize(
    ("name", "error", "sentence"),
    [
        ("CT_small.dcm", UnsupportedInput, "expected an MR image, got modality CT"),
        ("SC_rgb_small_odd.dcm", UnsupportedInput, "expected an MR image, got modality OT"),
        (
            "MR_truncated.dcm",
            UnreadableDicom,
            "truncated pixel data: expected 8192 bytes, got 8130 (series 1, instance 1)",
        ),
        ("no_meta.dcm", UnreadableDicom, "expected a DICOM file, got something else"),
        ("DICOMDIR", UnsupportedInput, "expected an MR image, got no modality"),
    ],
)
def test_files_that_are_refused(name, error, sentence):
    with pytest.raises(error) as caught:
        dicom.read([wheel(name)])
    assert str(caught.value) == sentence


@needs_data
def test_colour_mr_is_refused():
    with pytest.raises(UnsupportedInput, match="expected monochrome pixels, got photometric interpretation RGB"):
        dicom.read([DATA / "enhanced" / "siemens_xa_dwi.dcm"])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"ImageType": ["ORIGINAL", "PRIMARY", "P", "ND"]}, "expected magnitude images, got phase"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "R"]}, "expected magnitude images, got real"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "I"]}, "expected magnitude images, got imaginary"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "PHASE MAP", "P"]}, "expected magnitude images, got phase"),
        ({"ComplexImageComponent": "PHASE"}, "expected magnitude images, got phase"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "got photometric interpretation PALETTE COLOR"),
        ({"SOPClassUID": uid.MRSpectroscopyStorage}, "got SOP class MR Spectroscopy Storage"),
        ({"NumberOfFrames": 2}, "expected one frame in an object of class MR Image Storage, got 2 frames"),
        ({"NumberOfFrames": -1}, "expected one frame in an object of class MR Image Storage, got -1 frames"),
        ({"BitsAllocated": 12}, "got 12 allocated, 16 stored, high bit 15"),
    ],
)
def test_images_that_are_not_worked_on(changes, sentence):
    with pytest.raises(UnsupportedInput, match=sentence):
        dicom.read([written(small(**changes))])


@pytest.mark.parametrize("image_type", ["ORIGINAL", ["ORIGINAL", "PRIMARY"], ["DERIVED", "SECONDARY", "OTHER", "M"]])
def test_images_that_name_no_other_component_are_magnitude(image_type):
    assert only([written(small(ImageType=image_type))]).images.pixels.any()


@pytest.mark.parametrize(("code", "component"), [(1, "phase"), (2, "real"), (3, "imaginary")])
def test_the_component_that_ge_tells_in_private_is_refused(code, component):
    dataset = small()
    dataset.private_block(0x43, "GEMS_PARM_01", create=True).add_new(0x2F, "SS", code)
    with pytest.raises(UnsupportedInput, match=f"expected magnitude images, got {component}"):
        dicom.read([written(dataset)])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"PixelData": None}, "expected pixel data, got none"),
        ({"Rows": None}, "expected an image with rows and columns, got 0 x 64"),
        ({"Columns": 0}, "expected an image with rows and columns, got 64 x 0"),
        ({"StudyInstanceUID": ""}, "expected an instance with a StudyInstanceUID, got none"),
        ({"PixelSpacing": ["nan", "1"]}, "expected 2 finite numbers in PixelSpacing, got nan, 1"),
        ({"ImagePositionPatient": ["0", "0"]}, "expected 3 finite numbers in ImagePositionPatient, got 0, 0"),
        ({"RescaleSlope": "1e38"}, "expected a rescale that leaves finite pixels, got 1e[+]38 and 0"),
    ],
)
def test_damaged_headers(changes, sentence):
    dataset = small(**changes)
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset)
    with pytest.raises(UnreadableDicom, match=sentence):
        dicom.read([buffer.getvalue()])


def test_an_unintelligible_element_does_not_cost_the_image():
    whole = written(small(EchoTrainLength=1))
    odd = whole.replace(b"\x18\x00\x91\x00IS\x02\x00", b"\x18\x00\x91\x00FD\x02\x00")  # a double of two bytes
    assert odd != whole
    series = only([odd])
    assert "EchoTrainLength" not in series.headers[0]
    assert_array_equal(series.images.pixels, only([whole]).images.pixels)


def test_too_many_pixels_are_refused_before_they_are_decoded():
    huge = small(Rows=60000, Columns=60000)
    with pytest.raises(UnsupportedInput, match="expected at most 134217728 pixels in all, got 3600000000"):
        dicom.read([written(huge)])
    slices = [written(small(InstanceNumber=number)) for number in range(3)]
    assert only(slices).images.pixels.shape == (3, 64, 64)
    with pytest.raises(UnsupportedInput, match="expected at most 12287 pixels in all, got 12288"):
        dicom.read(slices, max_pixels=3 * 64 * 64 - 1)


@pytest.mark.parametrize(
    ("name", "marker", "sizes"),
    [("MR_small_jp2klossless.dcm", b"\xff\x51", (6, 10)), ("MR_small_jpeg_ls_lossless.dcm", b"\xff\xf7", (5, 7))],
)
def test_a_compressed_frame_that_claims_to_be_huge_never_reaches_the_decoder(name, marker, sizes):
    dataset = pydicom.dcmread(wheel(name))
    (frame,) = generate_frames(dataset.PixelData, number_of_frames=1)
    forged = bytearray(frame)
    width = sizes[1] - sizes[0]
    for offset in sizes:
        start = frame.index(marker) + offset
        forged[start : start + width] = (60000).to_bytes(width, "big")
    dataset.PixelData = encapsulate([bytes(forged)])
    with pytest.raises(UnreadableDicom, match="64 x 64 pixels of 1 component, got 60000 x 60000 of 1"):
        dicom.read([written(dataset)])


def test_a_deflated_bomb_is_refused():
    dataset = small()
    dataset.file_meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian
    with pytest.raises(UnsupportedInput, match="expected a deflated data set of at most 8000 bytes, got more"):
        dicom.read([written(dataset)], max_bytes=8000)


@quick
@given(
    st.binary(max_size=400), st.sampled_from([b"", b"\x08\x00\x05\x00CS", b"\x02\x00\x00\x00UL", b"\x00\x08\x00\x05"])
)
def test_garbage_is_refused(noise, start):
    with pytest.raises(KdmriError):
        dicom.read([start + noise])
    with pytest.raises(KdmriError):
        dicom.read([bytes(128) + b"DICM" + start + noise])


@quick
@given(st.data(), st.sampled_from(["MR_small.dcm", "MR_small_implicit.dcm", "MR_small_RLE.dcm"]))
def test_damage_is_refused_or_harmless(data, name):
    content = bytearray(wheel(name).read_bytes())
    for _ in range(3):
        content[data.draw(st.integers(132, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    for damaged in (bytes(content), bytes(content[:cut])):
        try:
            groups = dicom.read([damaged])
        except KdmriError:
            continue
        assert all(np.isfinite(series.images.pixels).all() for series in groups)


def test_no_sources_are_refused():
    with pytest.raises(UnreadableDicom, match="expected at least one DICOM image, got none"):
        dicom.read([])


def test_what_looks_like_dicom():
    assert dicom.looks_like_dicom(wheel("MR_small.dcm").read_bytes()[:132])
    assert dicom.looks_like_dicom(wheel("MR_small.dcm").read_bytes()[132:264])
    assert not dicom.looks_like_dicom(b"")
    assert not dicom.looks_like_dicom(b"\x89HDF\r\n\x1a\n" + bytes(200))
    assert not dicom.looks_like_dicom(zipped({"a": b"b"}).getvalue())


# --- zip ---


@needs_data
def test_a_zip_is_read_as_its_instances_and_other_members_are_skipped():
    paths = sorted((DATA / "t1_series").glob("*.dcm"))[:3]
    members = {f"series/{path.name}": path.read_bytes() for path in paths}
    members |= {"DICOMDIR": wheel("DICOMDIR").read_bytes(), "README.txt": b"what a viewer adds", "empty": b""}
    (series,) = dicom.read_zip(zipped(members))
    assert_array_equal(series.images.pixels, only(paths).images.pixels)


def test_a_zip_of_something_else_is_refused():
    with pytest.raises(UnreadableDicom, match="expected at least one DICOM image, got none"):
        dicom.read_zip(zipped({"README.txt": b"nothing here"}))
    with pytest.raises(UnsupportedInput, match="expected an MR image, got modality CT"):
        dicom.read_zip(zipped({"ct.dcm": wheel("CT_small.dcm").read_bytes()}))


def test_a_damaged_zip_is_refused():
    good = zipped({"a.dcm": wheel("MR_small.dcm").read_bytes()}).getvalue()
    middle = len(good) // 2
    flipped = good[:middle] + bytes(byte ^ 0xFF for byte in good[middle : middle + 64]) + good[middle + 64 :]
    for damaged in (b"PK\x03\x04 not a zip", good[:-40], flipped):
        with pytest.raises(UnreadableDicom, match="expected a zip of DICOM instances, got a damaged archive"):
            dicom.read_zip(io.BytesIO(damaged))


def test_a_zip_bomb_is_refused_unpacked():
    bomb = zipped({"zeros.dcm": bytes(10**7)})
    assert len(bomb.getvalue()) < 20_000
    with pytest.raises(UnsupportedInput, match="expected a zip of at most 1000000 bytes unpacked, got 10000000"):
        dicom.read_zip(bomb, max_bytes=10**6)


def test_encrypted_members_are_refused():
    content = zipped({"a.dcm": wheel("MR_small.dcm").read_bytes()}).getvalue()
    directory = bytearray(content)
    directory[content.index(b"PK\x01\x02") + 8] |= 1  # the flag bit of the central directory (APPNOTE 4.4.4)
    with pytest.raises(UnsupportedInput, match="expected a plain zip, got one with encrypted members"):
        dicom.read_zip(io.BytesIO(bytes(directory)))


def test_no_message_names_a_patient_or_an_instance():
    dataset = small(ImageType=["ORIGINAL", "PRIMARY", "P"])
    with pytest.raises(UnsupportedInput) as caught:
        dicom.read([written(copy.deepcopy(dataset))])
    told = str(caught.value)
    assert str(dataset.PatientName) not in told
    assert dataset.SOPInstanceUID not in told
