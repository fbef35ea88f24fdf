"""Hostile and odd DICOM: one error that says what was expected, before anything large is allocated."""

from pathlib import Path

import pydicom
import pytest
from numpy.testing import assert_array_equal
from pydicom import Dataset, uid
from pydicom.encaps import encapsulate, generate_frames

from kdmri.errors import KdmriError, UnreadableDicom
from kdmri.formats.dicom import reader
from kdmri.formats.dicom.codestream import check_size, without_boxes

from .slices import answer_to, content, mr_slice

HOSTILE = Path(__file__).parents[3].parent / "shared" / "cases" / "hostile"


def segment(marker: int, rows: int, columns: int) -> bytes:
    return bytes([0xFF, marker, 0, 11, 12]) + rows.to_bytes(2, "big") + columns.to_bytes(2, "big") + b"\1\1\x11\0"


@pytest.mark.parametrize(
    "middle",
    [
        segment(0xDE, 64, 64) + segment(0xC3, 65500, 65500),
        segment(0xC3, 64, 64) + segment(0xC3, 65500, 65500),
        b"\xff" * 9 + segment(0xC3, 65500, 65500)[1:],
        b"\xff\xf8\x00\x0d\x04\x04" + bytes(9) + segment(0xF7, 64, 64),
        segment(0xC3, 0, 64),
    ],
    ids=["hierarchical", "second frame", "fill bytes", "oversize parameters", "lines told later"],
)
def test_a_stream_that_claims_another_size_anywhere_is_refused(middle: bytes) -> None:
    with pytest.raises(UnreadableDicom, match="expected compressed frames"):
        check_size(b"\xff\xd8" + middle + b"\xff\xda\x00\x08" + bytes(6), 64, 64)


def test_fill_bytes_and_comments_before_the_right_size_are_read() -> None:
    check_size(b"\xff\xd8\xff\xfe\x00\x04ab\xff\xff" + segment(0xC3, 64, 64) + b"\xff\xda\x00\x08" + bytes(6), 64, 64)


def jp2(codestream: bytes, kind: str) -> bytes:
    """Return a JP2 file: its last box by a length, to the end of the file, or by a length in 64 bits."""
    head = b"\x00\x00\x00\x0cjP  \r\n\x87\n" + b"\x00\x00\x00\x14ftypjp2 \x00\x00\x00\x00jp2 "
    if kind == "long":
        return head + b"\x00\x00\x00\x01jp2c" + (16 + len(codestream)).to_bytes(8, "big") + codestream
    return head + (0 if kind == "open" else 8 + len(codestream)).to_bytes(4, "big") + b"jp2c" + codestream


@pytest.mark.parametrize("kind", ["plain", "open", "long"])
def test_jp2_files_in_place_of_codestreams_are_read(kind: str) -> None:
    source = mr_slice()
    source.compress(uid.JPEG2000Lossless, generate_instance_uid=False)
    (frame,) = generate_frames(source.PixelData, number_of_frames=1)
    source.PixelData = encapsulate([jp2(frame, kind)])
    assert_array_equal(reader.read([content(source)])[0].images.pixels[0], mr_slice().pixel_array)


def test_a_jp2_file_without_a_codestream_is_refused() -> None:
    with pytest.raises(UnreadableDicom, match="got a JP2 file without one"):
        without_boxes(jp2(b"", "plain").replace(b"jp2c", b"free"))


def nested(depth: int) -> Dataset:
    source = mr_slice()
    item = source
    for _ in range(depth):
        inner = Dataset()
        item.ReferencedImageSequence = [inner]
        item = inner
    item.ReferencedSOPInstanceUID = "1.2"
    return source


@pytest.mark.parametrize("depth", [40, 100, 150])
def test_deeply_nested_sequences_are_refused(depth: int) -> None:
    with pytest.raises(UnreadableDicom, match="expected sequences nested at most 32 deep"):
        reader.read([content(nested(depth))])


def test_sequences_as_deep_as_scanners_write_are_read() -> None:
    assert reader.read([content(nested(8))])


@pytest.mark.parametrize("count", [1, 8, 16, 4096, 2**24])
def test_zeros_behind_the_last_element_end_the_data_set(count: int) -> None:
    source = content(mr_slice(DataSetTrailingPadding=None))
    (output,) = answer_to(source + bytes(count))
    assert not [element for element in output if element.tag.group in (0, 2)]


@pytest.mark.skipif(not HOSTILE.is_dir(), reason="../shared/cases is absent")
@pytest.mark.parametrize("name", ["dcm_jpeg_dhp_then_65500.dcm", "dcm_nested_900.dcm", "zip_lzma_bomb.zip"])
def test_real_hostile_files_are_refused(name: str) -> None:
    with pytest.raises(KdmriError):
        answer_to((HOSTILE / name).read_bytes())


@pytest.mark.skipif(not HOSTILE.is_dir(), reason="../shared/cases is absent")
@pytest.mark.parametrize("name", ["mutant_dicom.dcm", "mutant_j2k.dcm"])
def test_real_mutants_are_answered_or_refused(name: str) -> None:
    try:
        outputs = answer_to((HOSTILE / name).read_bytes())
    except KdmriError:
        return
    assert all(isinstance(output, pydicom.Dataset) for output in outputs)
