"""ISMRMRD protocol streams: ismrmrd's own serializer writes what is read here, and no length is believed."""

import gzip
import io
import struct
from pathlib import Path

import ismrmrd
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ismrmrd.serialization import ConfigFile, ConfigText, ProtocolSerializer
from numpy.testing import assert_array_equal

import kdmri
from kdmri.data.kspace import KSpace
from kdmri.errors import InvalidRequest, KdmriError, UnreadableKSpace, UnsupportedInput
from kdmri.formats.kspace import reader
from kdmri.phantoms import phantom, scan
from tests.formats.kspace.mrd_files import MrdFile
from tests.shared_data import ABSENT, DATA

REAL = DATA / "kspace" / "brain_16ch.mrd.h5"


def serialize(file: MrdFile, *before: object, trajectory: int = 0) -> bytes:
    """Write a file as a stream, with messages before its header."""
    target = io.BytesIO()
    writer = ProtocolSerializer(target)
    for message in before:
        writer.serialize(message)
    xml = (file.xml or file.header()).encode()
    target.write(struct.pack("<HI", 3, len(xml)) + xml)
    for head, readout in zip(file.heads, file.readouts, strict=True):
        head = head.copy()
        head["trajectory_dimensions"] = trajectory
        acquisition = ismrmrd.Acquisition(head.tobytes())
        acquisition.data[:] = readout
        writer.serialize(acquisition)
    target.write(struct.pack("<H", 4))
    return target.getvalue()


@pytest.fixture(scope="module")
def full() -> KSpace:
    return scan(phantom(24, 20), coils=2)


def waveform() -> ismrmrd.Waveform:
    return ismrmrd.Waveform.from_array(np.arange(12, dtype=np.uint32).reshape(3, 4))


BEFORE = {
    "header first": (),
    "a configuration's name": (ConfigFile("default.xml"),),
    "a configuration and a text": (ConfigText("<configuration/>"), "hello"),
}


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("packing", [bytes, gzip.compress], ids=["bare", "gzipped"])
def test_a_stream_holds_the_same_scan(full: KSpace, before: str, packing) -> None:
    content = packing(serialize(MrdFile.of(full), *BEFORE[before], trajectory=2))
    assert_array_equal(reader.read(io.BytesIO(content)).samples, full.samples)
    found = kdmri.read(content)
    assert isinstance(found, KSpace)
    assert_array_equal(found.samples, full.samples)


@pytest.mark.skipif(not REAL.exists(), reason=ABSENT)
def test_a_real_scan_as_a_stream_is_the_same(tmp_path: Path) -> None:
    (tmp_path / "scan.dat").write_bytes(serialize(MrdFile.load(REAL)))
    found, expected = reader.read(tmp_path / "scan.dat"), reader.read(REAL)
    assert_array_equal(found.samples, expected.samples)
    assert_array_equal(found.mask, expected.mask)


def test_waveforms_between_are_passed_over(full: KSpace) -> None:
    content = serialize(MrdFile.of(full))
    target = io.BytesIO()
    ProtocolSerializer(target).serialize(waveform())
    (length,) = struct.unpack_from("<I", content, 2)
    mixed = content[: 6 + length] + target.getvalue() + content[6 + length :]
    assert_array_equal(reader.read(io.BytesIO(mixed)).samples, full.samples)


@settings(max_examples=100, deadline=None)
@given(share=st.floats(0, 1, exclude_max=True))
def test_streams_cut_anywhere_are_refused(share: float) -> None:
    """A stream that ends between two acquisitions is as good as a whole one: a scan of fewer lines."""
    whole = scan(phantom(12, 10), coils=2)
    content = serialize(MrdFile.of(whole))[:-2]
    try:
        found = reader.read(io.BytesIO(content[: int(share * len(content))]))
    except KdmriError:
        return
    assert found.mask.sum() < whole.mask.sum()


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (struct.pack("<HI", 3, 2**32 - 1) + b"<x/>", "expected an HDF5 file, got"),
        (
            struct.pack("<HI", 3, 4) + b"<x/>" + struct.pack("<HI", 5, 2**32 - 2) + b"text",
            "expected 4294967294 bytes of a text, got 4",
        ),
        (struct.pack("<HI", 3, 4) + b"<x/>" + struct.pack("<H", 1008) + b"\xff" * 340, "bytes of acquisition 0, got 0"),
        (struct.pack("<HI", 3, 4) + b"<x/>" + struct.pack("<H", 1026) + b"\xff" * 40, "bytes of a waveform, got 0"),
        (struct.pack("<HI", 3, 4) + b"<x/>" + b"\x01", "expected 2 bytes of a message's id, got 1"),
    ],
)
def test_hostile_lengths_are_refused_before_memory_is_taken(message: bytes, words: str) -> None:
    with pytest.raises(UnreadableKSpace, match=words):
        reader.read(io.BytesIO(message))


def test_streams_of_images_and_unknown_messages_are_refused(full: KSpace) -> None:
    start = struct.pack("<HI", 3, 4) + b"<x/>"
    for kind, words in ((1022, "stream of images"), (1030, "stream of arrays")):
        with pytest.raises(UnsupportedInput, match=words):
            reader.read(io.BytesIO(start + struct.pack("<H", kind) + bytes(400)))
    with pytest.raises(UnreadableKSpace, match="got message id 77 at byte 10"):
        reader.read(io.BytesIO(start + struct.pack("<H", 77)))
    with pytest.raises(UnreadableKSpace, match="without acquisitions"):
        reader.read(io.BytesIO(start + struct.pack("<H", 4)))
    with pytest.raises(UnsupportedInput, match="messages beside acquisitions, got more"):
        reader.read(io.BytesIO(start + struct.pack("<HI", 5, 0) * 100_001))
    with pytest.raises(InvalidRequest, match="no group for an ISMRMRD stream"):
        reader.read(io.BytesIO(serialize(MrdFile.of(full))), group="dataset")
    with pytest.raises(UnsupportedInput, match="expected at most"):
        reader.read(io.BytesIO(serialize(MrdFile.of(full))), max_bytes=1000)
