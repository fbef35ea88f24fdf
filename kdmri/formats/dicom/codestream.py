"""What size a compressed frame claims to be, read before a decoder believes it.

A forged JPEG-LS header of 65000 x 65000 ends the process inside the decoder, and a JPEG 2000 one takes 7 GB and half a
minute, whatever the data set's Rows and Columns say.
"""

import struct

from kdmri.errors import UnreadableDicom

SIZE_MARKERS = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF, 0xDE, 0xF7}
"""Second bytes of JPEG's SOF and DHP (ITU-T T.81 table B.1) and JPEG-LS's SOF (T.87); one layout."""


def check_size(stream: bytes, rows: int, columns: int) -> None:
    """Raise UnreadableDicom unless a JPEG, JPEG-LS or JPEG 2000 stream claims `rows` x `columns` of one component."""
    try:
        claimed = _jpeg_2000_size(stream) if stream[:4] == b"\xff\x4f\xff\x51" else _jpeg_size(stream)
    except (struct.error, ValueError) as error:
        raise UnreadableDicom("expected compressed frames, got bytes that no JPEG begins with") from error
    if claimed != (rows, columns, 1):
        got = "{} x {} of {}".format(*claimed)
        raise UnreadableDicom(f"expected compressed frames of {rows} x {columns} pixels of 1 component, got {got}")


def _jpeg_2000_size(stream: bytes) -> tuple[int, int, int]:
    """Rows, columns and components from SIZ, which is always the second marker (ISO 15444-1 A.5.1)."""
    right, bottom, left, top = struct.unpack_from(">4I", stream, 8)
    (components,) = struct.unpack_from(">H", stream, 40)
    return bottom - top, right - left, components


def _jpeg_size(stream: bytes) -> tuple[int, int, int]:
    """Rows, columns and components from the frame header: the first segment of `SIZE_MARKERS`."""
    if stream[:2] != b"\xff\xd8":
        raise ValueError("no start of image")
    offset = 2
    while True:
        prefix, marker, length = struct.unpack_from(">BBH", stream, offset)
        if prefix != 0xFF or length < 2:
            raise ValueError("no marker where one must be")
        if marker in SIZE_MARKERS:
            rows, columns, components = struct.unpack_from(">HHB", stream, offset + 5)
            return rows, columns, components
        offset += 2 + length
