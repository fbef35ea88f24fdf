"""ISMRMRD protocol streams: acquisitions one after the other, as siemens_to_ismrmrd writes them since version 1.3.

The messages are walked here, because ismrmrd's own deserializer reads as many bytes as each length says: every length
is held against what is left of the file before anything is taken.
"""

import struct
from dataclasses import dataclass
from io import SEEK_END
from pathlib import Path
from typing import BinaryIO

import numpy as np
from ismrmrd.hdf5 import acquisition_header_dtype
from numpy import ndarray

from kdmri.errors import UnreadableKSpace, UnsupportedInput
from kdmri.formats.kspace import hdf5
from kdmri.formats.kspace.header import MAX_XML_BYTES
from kdmri.formats.kspace.tables import LINES_AT_ONCE
from kdmri.formats.kspace.unpacking import open_stream

CONFIG_FILE, CONFIG_TEXT, HEADER, CLOSE, TEXT = 1, 2, 3, 4, 5
ACQUISITION, IMAGE, WAVEFORM, ARRAY = 1008, 1022, 1026, 1030
"""Message ids (ismrmrd/serialization.h)."""
REFUSED = {IMAGE: "images, an answer of a reconstruction", ARRAY: "arrays"}
CONFIG_FILE_BYTES = 1024
"""The message CONFIG_FILE has this length; CONFIG_TEXT, HEADER and TEXT begin with theirs (32 bits)."""
WAVEFORM_HEADER = struct.Struct("<28xHH8x")
"""Header of a waveform: 40 bytes with the numbers of samples and of channels, 32 bits a sample."""
LONGEST_TEXT = 2**20
"""Length of a first configuration that is still taken for one."""
MAX_OTHER_MESSAGES = 100_000
"""Messages that are no acquisition: empty ones cost time but no bytes, so that the file's size bounds them badly."""


@dataclass(frozen=True)
class StreamTable:
    """Acquisitions of a stream; see `tables.Table`."""

    content: ndarray
    """The whole stream, bytes."""
    rows: ndarray
    """Heads of the acquisitions."""
    places: ndarray
    """Where the samples of each acquisition begin."""

    def heads(self, max_bytes: int) -> tuple[ndarray, int]:
        """Return the heads, and how many acquisitions may be read at a time. Raises UnsupportedInput."""
        hdf5.check_size(self.content.size, max_bytes)
        return self.rows, LINES_AT_ONCE

    def readouts(self, start: int, stop: int) -> ndarray:
        """Return the samples of a range of acquisitions: an array of arrays of float32."""
        found = np.empty(stop - start, object)
        for number in range(start, stop):
            head, place = self.rows[number], int(self.places[number])
            # Real and imaginary part of a sample are float32 each: 8 bytes.
            size = 8 * int(head["number_of_samples"]) * int(head["active_channels"])
            found[number - start] = self.content[place : place + size].view("<f4")
        return found


def is_stream(beginning: bytes) -> bool:
    """Recognise a stream by its first message: the header's XML, or a configuration."""
    if len(beginning) < 7:
        return False
    kind, length = struct.unpack_from("<HI", beginning)
    if kind == HEADER:
        return length <= MAX_XML_BYTES and beginning[6:].lstrip().startswith(b"<")
    if kind == CONFIG_FILE:
        return _is_text(beginning[2:6])
    # A DICOM file without preamble begins with group 2, too: it has no text at this place, or an impossible length.
    return kind in (CONFIG_TEXT, TEXT) and 0 < length <= LONGEST_TEXT and _is_text(beginning[6:7])


def _is_text(content: bytes) -> bool:
    return content.isascii() and content.decode("ascii").isprintable()


def read(source: Path | BinaryIO, max_bytes: int) -> tuple[StreamTable, bytes]:
    """Walk a stream and return its acquisitions and XML header; waveforms and texts are passed over.

    Args:
        source: path or seekable stream.
        max_bytes: largest size of the file.

    Raises:
        UnreadableKSpace: the stream ends early, has an unknown message, or lacks its header or acquisitions.
        UnsupportedInput: it is too large, or holds images or arrays.
    """
    with open_stream(source) as stream:
        hdf5.check_size(stream.seek(0, SEEK_END), max_bytes)
        stream.seek(0)
        content = np.frombuffer(stream.read(), np.uint8)
    heads: list[bytes] = []
    places: list[int] = []
    xml, at, others = b"", 0, 0
    whole = content.data
    while at < content.size:
        (kind,) = struct.unpack("<H", _take(whole, at, 2, "a message's id"))
        at += 2
        if kind == CLOSE:
            break
        if kind == ACQUISITION:
            taken = _take(whole, at, acquisition_header_dtype.itemsize, "the head of an acquisition")
            head = np.frombuffer(taken, acquisition_header_dtype)[0]
            # Python's integers don't overflow: a forged head states a size that `_take` then finds to be missing.
            samples = int(head["number_of_samples"])
            place = at + len(taken) + 4 * samples * int(head["trajectory_dimensions"])
            size = 8 * samples * int(head["active_channels"])
            _take(whole, place, size, f"acquisition {len(heads)}")
            heads.append(bytes(taken))
            places.append(place)
            at = place + size
            continue
        others += 1
        if others > MAX_OTHER_MESSAGES:
            raise UnsupportedInput(f"expected at most {MAX_OTHER_MESSAGES} messages beside acquisitions, got more")
        text, at = _other(whole, at, kind)
        # The first header counts: a stream of one measurement has one.
        xml = text if kind == HEADER and not xml else xml
    if not xml or not heads:
        missing = "XML header" if not xml else "acquisitions"
        raise UnreadableKSpace(f"expected an ISMRMRD stream with header and acquisitions, got one without {missing}")
    rows = np.frombuffer(b"".join(heads), acquisition_header_dtype)
    return StreamTable(content, rows, np.asarray(places)), xml


def _other(whole: memoryview, at: int, kind: int) -> tuple[bytes, int]:
    """Return the text of a message that is no acquisition, and where the next one begins."""
    if kind == CONFIG_FILE:
        return b"", at + len(_take(whole, at, CONFIG_FILE_BYTES, "a configuration's name"))
    if kind in (CONFIG_TEXT, HEADER, TEXT):
        (length,) = struct.unpack("<I", _take(whole, at, 4, "a text's length"))
        if kind == HEADER and length > MAX_XML_BYTES:
            raise UnreadableKSpace(f"expected an ISMRMRD header of at most {MAX_XML_BYTES} bytes, got {length}")
        text = _take(whole, at + 4, length, "a text")
        return (bytes(text) if kind == HEADER else b""), at + 4 + length
    if kind == WAVEFORM:
        samples, channels = WAVEFORM_HEADER.unpack(_take(whole, at, WAVEFORM_HEADER.size, "the head of a waveform"))
        place = at + WAVEFORM_HEADER.size
        return b"", place + len(_take(whole, place, 4 * samples * channels, "a waveform"))
    if kind in REFUSED:
        raise UnsupportedInput(f"ISMRMRD stream of {REFUSED[kind]}: expected acquisitions")
    raise UnreadableKSpace(f"expected an ISMRMRD stream of known messages, got message id {kind} at byte {at - 2}")


def _take(whole: memoryview, at: int, size: int, name: str) -> memoryview:
    """Return bytes of the stream. Raises UnreadableKSpace, naming what they were to be, where they are not there."""
    if at + size > len(whole):
        left = max(0, len(whole) - at)
        raise UnreadableKSpace(f"ISMRMRD stream ends early: expected {size} bytes of {name}, got {left}")
    return whole[at : at + size]
