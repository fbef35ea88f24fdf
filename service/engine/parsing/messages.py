"""Messages between the service and a parser worker: plain data and arrays in a sealed memory file, never pickles.

A message is a memory file (memfd_create(2)) that holds a JSON document and then the bytes of the arrays, passed over a
Unix socket with the length of the document. The receiver trusts nothing of it: a worker that read a hostile file may
have been taken over. Sealing keeps the sender from changing or shrinking what was checked.
"""

import fcntl
import json
import math
import mmap
import os
import socket
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeGuard

import numpy as np
from numpy import ndarray

HEADER = struct.Struct("=Q")
"""Bytes of the JSON document, which begins the memory file."""
ALIGNMENT = 64
"""Bytes that arrays are aligned to, as numpy and torch allocate them: a cache line."""
# No dtype that holds objects or text: those would be pointers, or need a decoder.
DTYPES = frozenset({"bool", "uint8", "int64", "float32", "float64", "complex64"})
MAX_DIMENSIONS = 6
"""numpy allows 64; no record has more than four."""
MAX_DOCUMENT = 64 * 2**20
MAX_DESCRIPTORS = 2
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
CHUNK = 2**26

Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]


class BrokenMessage(Exception):
    """Bytes that are not a message, or none."""


class SenderEnded(BrokenMessage):
    """The sender closed the connection, or ended."""


@dataclass(frozen=True)
class Message:
    """Plain data, and the arrays that it refers to by number."""

    data: Json
    arrays: Sequence[ndarray] = ()


def send(connection: socket.socket, message: Message, descriptors: Sequence[int] = ()) -> None:
    """Send a message, and with it open descriptors.

    Args:
        connection: A Unix socket that keeps the borders of messages (SOCK_SEQPACKET).
        message: Plain data and arrays.
        descriptors: Open files that the receiver gets copies of; the caller keeps its own.

    Raises:
        OSError: The receiver has ended, or the message is larger than this process may write.
    """
    places: list[dict[str, Json]] = []
    offsets, end = [], 0
    for array in message.arrays:
        places.append({"dtype": array.dtype.name, "shape": list(array.shape), "offset": end})
        offsets.append(end)
        end += -(-array.nbytes // ALIGNMENT) * ALIGNMENT
    # Offsets count from the end of the document, whose length they would change otherwise.
    document = json.dumps({"data": message.data, "arrays": places}).encode()
    start = -(-len(document) // ALIGNMENT) * ALIGNMENT
    memory = os.memfd_create("kdmri", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(memory, start + end)
        _write(memory, memoryview(document), 0)
        for array, offset in zip(message.arrays, offsets, strict=True):
            _write(memory, np.ascontiguousarray(array).ravel().view(np.uint8).data, start + offset)
        socket.send_fds(connection, [HEADER.pack(len(document))], [memory, *descriptors])
    finally:
        os.close(memory)


def receive(connection: socket.socket, *, limit: int, trusted: bool = False) -> tuple[Message, list[int]]:
    """Receive a message and the descriptors that came with it, which the caller has to close.

    Args:
        connection: A Unix socket whose timeout bounds the wait.
        limit: Bytes that document and arrays may have together.
        trusted: Take the memory file as it is. Workers, which have no right to seal one, trust the service.

    Raises:
        BrokenMessage: The sender has ended, or sent anything but a well-formed message within the limit.
        TimeoutError: Nothing came in time.
    """
    try:
        head, descriptors, _, _ = socket.recv_fds(connection, HEADER.size, MAX_DESCRIPTORS)
    except TimeoutError:
        raise
    except OSError as error:
        raise SenderEnded("expected a message, the connection broke") from error
    try:
        if len(head) != HEADER.size or not descriptors:
            raise SenderEnded("expected a message, the sender has ended")
        message = _read(descriptors[0], HEADER.unpack(head)[0], limit, trusted=trusted)
    except BaseException:
        for descriptor in descriptors:
            os.close(descriptor)
        raise
    os.close(descriptors[0])
    return message, descriptors[1:]


def _write(memory: int, content: memoryview, offset: int) -> None:
    """Write all of the content, in pieces: one system call takes less than 2 GiB.

    Args:
        memory: Descriptor of the memory file.
        content: Bytes to write.
        offset: Where they begin in the file.

    Raises:
        OSError: The file may not become that large (RLIMIT_FSIZE).
    """
    for start in range(0, len(content), CHUNK):
        piece = content[start : start + CHUNK]
        if os.pwrite(memory, piece, offset + start) != len(piece):
            raise OSError("expected the whole message to fit the memory file, it did not")


def _read(memory: int, length: int, limit: int, *, trusted: bool) -> Message:
    """Check a memory file and map it.

    Args:
        memory: Descriptor of the memory file.
        length: Bytes of the document, as the sender states it.
        limit: Bytes that document and arrays may have together.
        trusted: Take the file without sealing it, and copy it instead of mapping it.

    Raises:
        BrokenMessage: The content is not a well-formed message within the limit.
    """
    try:
        if not trusted:
            # Sealed before it is looked at: from here on its size and content stay as they are.
            fcntl.fcntl(memory, fcntl.F_ADD_SEALS, SEALS)
        size = os.fstat(memory).st_size
        if not 0 < length <= min(size, MAX_DOCUMENT) or size > limit:
            raise BrokenMessage(f"expected a document within {size} bytes and {limit} in all, got {length}")
        # A private mapping: arrays can be written to, and the pages are copied only then. Mapping takes fcntl, too.
        mapped = (
            bytearray(os.pread(memory, size, 0))
            if trusted
            else mmap.mmap(memory, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        )
        document = json.loads(mapped[:length])
        start = -(-length // ALIGNMENT) * ALIGNMENT
        return Message(document["data"], [_array(mapped, place, start) for place in document["arrays"]])
    except BrokenMessage:
        raise
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise BrokenMessage("expected a well-formed message") from error


def _array(mapped: mmap.mmap | bytearray, place: Mapping[str, object], start: int) -> ndarray:
    """Return the array at a place of the memory file, checked to lie within it.

    Args:
        mapped: Content of the file.
        place: Type, shape and offset, as the sender states them.
        start: Where arrays begin, after the document.

    Raises:
        BrokenMessage: The place is not one of an array within the file.
    """
    name, shape, offset = place["dtype"], place["shape"], place["offset"]
    sides = [side for side in shape if _is_size(side)] if isinstance(shape, list) else None
    if name not in DTYPES or sides is None or sides != shape or len(sides) > MAX_DIMENSIONS:
        raise BrokenMessage("expected an array of a known type and a shape of whole numbers")
    if not _is_size(offset):
        raise BrokenMessage("expected an array at a place in the message")
    # Python's integers don't overflow: a hostile shape gives a large product, which the comparison refuses.
    dtype, count, begin = np.dtype(str(name)), math.prod(sides), start + offset
    if begin % ALIGNMENT or begin + count * dtype.itemsize > len(mapped):
        raise BrokenMessage("expected an array within the message")
    return np.frombuffer(mapped, dtype, count, begin).reshape(sides)


def _is_size(number: object) -> TypeGuard[int]:
    """Return whether this is a whole number, not negative; JSON's true is none."""
    return type(number) is int and number >= 0
