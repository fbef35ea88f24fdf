"""Sizes that a compressed frame claims, read before a decoder believes them.

A forged JPEG-LS header of 65000 x 65000 ends the process inside the decoder, and a JPEG 2000 one takes 7 GB and half a
minute, whatever the data set's Rows and Columns state.
"""

import struct
from collections.abc import Iterator

from kdmri.errors import UnreadableDicom

SIZE_MARKERS = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF, 0xF7}
"""Second bytes of JPEG's SOF (ITU-T T.81 table B.1) and JPEG-LS's SOF (T.87); one layout."""
HIERARCHICAL = {0xDE, 0xDF}
"""DHP and EXP: frames of several sizes in one stream, which no DICOM transfer syntax has."""
START_OF_SCAN, LS_PARAMETERS, OVERSIZE = 0xDA, 0xF8, 4
"""JPEG-LS can state a size above 65535 in its parameters of type 4 (T.87 C.2.4.1.4)."""
JP2_SIGNATURE = b"\x00\x00\x00\x0cjP  \r\n\x87\n"
CODESTREAM = b"\xff\x4f\xff\x51"
"""SOC and SIZ of JPEG 2000."""


def check_size(stream: bytes, rows: int, columns: int) -> None:
    """Compare the size that a JPEG, JPEG-LS or JPEG 2000 stream claims with that of the object.

    Args:
        stream: one frame, without JP2 boxes.
        rows: expected rows.
        columns: expected columns.

    Raises:
        UnreadableDicom: it claims another size, several components or several sizes, or none.
    """
    try:
        claims = [_jpeg_2000_size(stream)] if stream.startswith(CODESTREAM) else list(_jpeg_sizes(stream))
    except (struct.error, ValueError) as error:
        raise UnreadableDicom("expected compressed frames, got bytes that no JPEG begins with") from error
    for claimed in claims:
        if claimed != (rows, columns, 1):
            got = "{} x {} of {}".format(*claimed)
            raise UnreadableDicom(f"expected compressed frames of {rows} x {columns} pixels of 1 component, got {got}")


def without_boxes(stream: bytes) -> bytes:
    """Return the codestream of a JP2 file (ISO 15444-1 annex I), or the stream itself if it is none.

    DICOM wants the bare codestream (PS3.5 A.4.4), yet whole JP2 files are found in archives.
    """
    if not stream.startswith(JP2_SIGNATURE):
        return stream
    offset = 0
    while offset + 8 <= len(stream):
        length, kind = struct.unpack_from(">I4s", stream, offset)
        head = 8
        if length == 1 and offset + 16 <= len(stream):  # The length is in 64 bits behind the box's type.
            (length,) = struct.unpack_from(">Q", stream, offset + 8)
            head = 16
        end = len(stream) if length == 0 else offset + length
        if kind == b"jp2c":
            return stream[offset + head : end]
        if end < offset + head:
            break
        offset = end
    raise UnreadableDicom("expected a JPEG 2000 codestream, got a JP2 file without one")


def _jpeg_2000_size(stream: bytes) -> tuple[int, int, int]:
    """Return rows, columns and components from SIZ, which is always the second marker (ISO 15444-1 A.5.1)."""
    right, bottom, left, top = struct.unpack_from(">4I", stream, 8)
    (components,) = struct.unpack_from(">H", stream, 40)
    # The image is the reference grid from its offset to its end (ISO 15444-1 B.2), with one sample for each grid point.
    return bottom - top, right - left, components


def _jpeg_sizes(stream: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield rows, columns and components of every frame header up to the first scan; there is at least one.

    Raises:
        ValueError, struct.error: the stream is damaged, hierarchical or has no frame header.
    """
    if stream[:2] != b"\xff\xd8":
        raise ValueError("no start of image")
    offset, count = 2, 0
    while True:
        # Any number of fill bytes FF may stand before a marker (T.81 B.1.1.2): a decoder skips them, so must the check.
        while stream[offset : offset + 2] == b"\xff\xff":
            offset += 1
        prefix, marker, length = struct.unpack_from(">BBH", stream, offset)
        if prefix != 0xFF or length < 2 or marker in HIERARCHICAL:
            raise ValueError("no marker of a plain frame where one must be")
        if marker == LS_PARAMETERS and stream[offset + 4 : offset + 5] == bytes([OVERSIZE]):
            raise ValueError("a size above 65535")
        if marker == START_OF_SCAN:
            if not count:
                raise ValueError("a scan without a frame header")
            return
        if marker in SIZE_MARKERS:
            rows, columns, components = struct.unpack_from(">HHB", stream, offset + 5)
            yield rows, columns, components
            count += 1
        offset += 2 + length
