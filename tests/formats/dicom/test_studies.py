"""Studies as users send them: one rule for files, parts and zips, and a note or a name for everything left out."""

import io
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.testing import assert_array_equal
from pydicom import Dataset, uid

from kdmri.errors import KdmriError, UnreadableDicom, UnsupportedInput
from kdmri.formats.dicom import folder, reader

from .slices import answer_to, content, mr_slice, zipped

OTHERS = {
    "phase": {"ImageType": ["ORIGINAL", "PRIMARY", "P", "ND"]},
    "modality SR": {"Modality": "SR", "SOPClassUID": uid.EnhancedSRStorage, "PixelData": None, "Rows": None},
    "modality CT": {"Modality": "CT", "SOPClassUID": uid.CTImageStorage},
    "SOP class Raw Data Storage": {"SOPClassUID": uid.RawDataStorage},
    "SOP class Secondary Capture Image Storage": {"SOPClassUID": uid.SecondaryCaptureImageStorage},
    "photometric interpretation RGB": {"PhotometricInterpretation": "RGB"},
    "a mosaic of slices": {"ImageType": ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]},
    "2 frames": {"NumberOfFrames": 2},
}


def numbered(*numbers: int) -> list[bytes]:
    return [content(mr_slice(InstanceNumber=number, SOPInstanceUID=f"1.2.{number}")) for number in numbers]


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("packing", ["parts", "zip", "zip among parts"])
def test_what_is_no_magnitude_image_is_left_out_and_counted(name: str, packing: str) -> None:
    other = content(mr_slice(**OTHERS[name]))
    slices = numbered(1, 2)
    upload = {
        "parts": [slices[0], other, slices[1]],
        "zip": [zipped([*slices, other])],
        "zip among parts": [slices[0], zipped([slices[1], other])],
    }[packing]
    (series,) = reader.read(upload)
    assert len(series.headers) == 2
    assert series.notes == (f"1 of 3 objects were left out: 1 x {name}.",)
    with pytest.raises(KdmriError, match=f"got {name}$"):
        reader.read([other])


@pytest.mark.parametrize("junk", [b"", b"text", b"\x00\x05\x16\x07" + bytes(200)])
def test_files_that_are_not_dicom_are_left_out_and_counted(junk: bytes) -> None:
    (series,) = reader.read([junk, *numbered(1, 2)])
    assert series.notes == ("1 of 3 objects were left out: 1 x something else.",)


@pytest.mark.parametrize(("numbers", "place"), [((3, 7), "series 3, instance 7"), ((1, 2), "series 1, instance 2")])
@pytest.mark.parametrize("packed", [False, True])
def test_damage_names_series_and_instance(numbers: tuple[int, int], place: str, packed: bool) -> None:
    cut = content(mr_slice(SeriesNumber=numbers[0], InstanceNumber=numbers[1]))[:-3000]
    upload = [*numbered(1), cut]
    with pytest.raises(UnreadableDicom, match=f"truncated pixel data.*{place}"):
        reader.read([zipped(upload)] if packed else upload)


def test_damage_before_the_numbers_names_the_object() -> None:
    dataset = mr_slice()
    dataset.file_meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian
    whole = content(dataset)
    meta = 144 + int.from_bytes(whole[140:144], "little")
    with pytest.raises(UnreadableDicom, match="object 2 of the upload"):
        reader.read([*numbered(1), whole[:meta] + b"\xff" * 99])


@pytest.mark.parametrize("copies", [2, 3])
@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.RLELossless])
def test_an_instance_that_comes_again_is_worked_on_once(copies: int, syntax: uid.UID) -> None:
    again = pydicom.dcmread(io.BytesIO(numbered(1)[0]))
    if syntax == uid.RLELossless:
        again.compress(syntax, generate_instance_uid=False)
    again.file_meta.TransferSyntaxUID = syntax
    (series,) = reader.read([*numbered(1, 2), *[content(again)] * (copies - 1)])
    assert len(series.headers) == 2
    assert series.notes == (f"{copies - 1} instances that came more than once were worked on once.",)


def test_different_images_under_one_uid_keep_distinct_new_ones() -> None:
    sources = [mr_slice(InstanceNumber=number) for number in range(3)]
    sources[1].PixelData = bytes(len(sources[1].PixelData))
    outputs = answer_to(*map(content, sources))
    assert len({output.SOPInstanceUID for output in outputs}) == 3


@pytest.mark.parametrize("studies", [("1.2.3", "1.2.4"), ("1.2.3", "1.2.4", "1.2.5"), ("1.9", "2.25.7")])
def test_one_series_uid_in_several_studies_is_several_series(studies: tuple[str, ...]) -> None:
    outputs = answer_to(*(content(mr_slice(StudyInstanceUID=study)) for study in studies))
    assert [output.StudyInstanceUID for output in outputs] == list(studies)
    assert len({output.SeriesInstanceUID for output in outputs}) == len(studies)


def siemens(count: int | None) -> Dataset:
    dataset = mr_slice(ImageType=["ORIGINAL", "PRIMARY", "M", "ND"])
    block = dataset.private_block(0x19, "SIEMENS MR HEADER", create=True)
    if count is not None:
        block.add_new(0x0A, "US", count)
    return dataset


def csa(count: int) -> Dataset:
    dataset = mr_slice()
    name = b"NumberOfImagesInMosaic".ljust(64, b"\0")
    value = b"SV10\4\3\2\1" + bytes(8) + name + bytes(36) + str(count).encode().ljust(8, b" ")
    dataset.private_block(0x29, "SIEMENS CSA HEADER", create=True).add_new(0x10, "OB", value)
    return dataset


def uih(count: int) -> Dataset:
    dataset = mr_slice(Manufacturer="UIH", ImageType=["ORIGINAL", "PRIMARY", "M", "VFRAME"])
    dataset.private_block(0x65, "Image Private Header", create=True).add_new(0x50, "DS", str(count))
    return dataset


@pytest.mark.parametrize(
    ("source", "name"),
    [
        (siemens(14), "a mosaic of 14 slices"),
        (csa(35), "a mosaic of 35 slices"),
        (uih(20), "a VFRAME of 20 slices"),
        (mr_slice(ImageType=["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]), "a mosaic of slices"),
    ],
)
def test_a_mosaic_is_refused_by_name(source: Dataset, name: str) -> None:
    with pytest.raises(UnsupportedInput, match=f"expected one slice in an image, got {name}"):
        reader.read([content(source)])


@pytest.mark.parametrize("source", [siemens(None), siemens(1), csa(0), uih(1)][:3])
def test_one_slice_of_a_maker_of_mosaics_is_an_image(source: Dataset) -> None:
    assert reader.read([content(source)])[0].images.pixels.any()


# --- packing ---


@pytest.mark.parametrize("junk", [b"", b"text", bytes(2000)])
def test_what_else_lies_in_a_folder_is_counted(tmp_path: Path, junk: bytes) -> None:
    (tmp_path / "deep").mkdir()
    for number, source in enumerate(numbered(1, 2)):
        (tmp_path / "deep" / str(number)).write_bytes(source)
    (tmp_path / "deep" / "notes").write_bytes(junk)
    (tmp_path / "more.zip").write_bytes(zipped(numbered(3)))
    (tmp_path / "DICOMDIR").write_bytes(b"an index")
    (series,) = reader.read(folder.files(tmp_path))
    assert len(series.headers) == 3
    assert series.notes == ("1 of 4 objects were left out: 1 x something else.",)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnreadableDicom, match="expected DICOM objects in the folder, got 0 other files"):
        folder.files(tmp_path / "empty")


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_zips_of_every_compression_are_read(compression: int) -> None:
    (series,) = reader.read([zipped(numbered(1, 2), compression)])
    assert len(series.headers) == 2


@pytest.mark.parametrize("number", [1, 2, 3])
def test_deflate64_is_read(number: int) -> None:
    """A stream of Deflate without long matches is a stream of Deflate64 as well: only its label differs."""
    source = numbered(number)[0]
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS, strategy=zlib.Z_HUFFMAN_ONLY)
    packed = packer.compress(source) + packer.flush()
    fields = struct.pack("<HHHLLLHH", 9, 0, 0, zlib.crc32(source), len(packed), len(source), 5, 0)
    local = b"PK\x03\x04" + struct.pack("<HH", 21, 0) + fields + b"a.dcm" + packed
    central = b"PK\x01\x02" + struct.pack("<HHH", 21, 21, 0) + fields + struct.pack("<HHHLL", 0, 0, 0, 0, 0) + b"a.dcm"
    end = b"PK\x05\x06" + struct.pack("<HHHHLLH", 0, 0, 1, 1, len(central), len(local), 0)
    (series,) = reader.read([local + central + end])
    assert_array_equal(series.images.pixels[0], mr_slice().pixel_array)
    damaged = bytearray(local + central + end)
    damaged[len(local) - 40] ^= 0xFF
    with pytest.raises(UnreadableDicom, match="damaged archive"):
        reader.read([bytes(damaged)])


def test_members_that_unpack_to_more_than_any_image_are_refused() -> None:
    with pytest.raises(UnsupportedInput, match="expected members that unpack to at most 1100 times their size"):
        reader.read([zipped([numbered(1)[0] + bytes(2**24)], zipfile.ZIP_LZMA)])


@pytest.mark.parametrize("count", [2, 3, 4])
def test_deflated_data_sets_share_one_bound(count: int) -> None:
    contents = []
    for number in range(count):
        dataset = mr_slice(InstanceNumber=number)
        dataset.PixelData = dataset.PixelData + bytes(2**16)
        dataset.file_meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian
        contents.append(content(dataset))
    reader.read(contents, max_bytes=count * 2**17)
    with pytest.raises(UnsupportedInput, match="expected a deflated data set of at most"):
        reader.read(contents, max_bytes=(count - 1) * 2**16 + 2**14)


def test_a_padded_meta_header_does_not_hide_a_deflated_data_set() -> None:
    dataset = mr_slice()
    dataset.file_meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian
    dataset.file_meta.PrivateInformationCreatorUID = "1.2"
    dataset.file_meta.PrivateInformation = bytes(4096)
    assert np.array_equal(reader.read([content(dataset)])[0].images.pixels[0], mr_slice().pixel_array)
    with pytest.raises(UnsupportedInput, match="expected a deflated data set of at most 8000 bytes"):
        reader.read([content(dataset)], max_bytes=8000)
