"""The process that reads uploads: one request after the other, confined to computing.

It is forked by the nursery, which has imported everything: after `confine` no file can be opened, so that a module that
is first imported while a file is read would be missing.
"""

import os
import socket
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from io import BufferedReader, RawIOBase
from typing import cast

from kdmri_service.engine.parsing.messages import BrokenMessage, Json, Message, receive, send
from kdmri_service.engine.parsing.sandbox import confine
from kdmri_service.processes import end_with_parent

from kdmri.errors import InvalidRequest, KdmriError, UnreadableInput, UnsupportedInput
from kdmri.operations import OPERATIONS, Operation
from kdmri.operations.operation import Limits, SourceFile
from kdmri.operations.packing import pack

MAX_REQUEST = 2**26
"""Bytes of a request message: parameters, and where each of up to 10,000 files lies in the upload."""


class Window(RawIOBase):
    """A range of an open file as a file of its own, read without moving the descriptor's position."""

    def __init__(self, descriptor: int, start: int, size: int) -> None:
        self._descriptor, self._start, self._size, self._position = descriptor, start, size, 0

    def readable(self) -> bool:
        """A window can be read."""
        return True

    def seekable(self) -> bool:
        """A window can be read from any position."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move to an offset from the beginning, the position or the end."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError("expected a position in the file, got a negative one")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        """Read into a buffer; returns the number of bytes, 0 at the end."""
        count = max(0, min(len(buffer), self._size - self._position))
        # pread leaves the descriptor's position alone, which all windows of an upload share.
        content = os.pread(self._descriptor, count, self._start + self._position)
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)


def serve(connection: socket.socket, parent: int, *, memory: int, answer: int) -> None:
    """Read uploads until the service closes the connection.

    Args:
        connection: Brings requests and takes answers.
        parent: Process id of the nursery; this process ends with it.
        memory: Bytes that reading may take.
        answer: Bytes that an answer may have.
    """
    # Confined before the first byte of an upload is read, and for good: no right can be had back.
    end_with_parent(parent)
    confinement = confine(memory=memory, answer=answer)
    send(connection, Message({"landlock": confinement.landlock, "seccomp": confinement.seccomp}))
    while True:
        try:
            request, (upload,) = receive(connection, limit=MAX_REQUEST, trusted=True)
        except BrokenMessage:
            return
        try:
            answered = _answer(request.data, upload)
        finally:
            os.close(upload)
        try:
            send(connection, answered)
        except MemoryError:
            send(connection, _refusal(_too_large()))
        except OSError:
            # RLIMIT_FSIZE: the answer is larger than the service takes.
            send(connection, _refusal(_too_large()))


def _answer(request: Json, upload: int) -> Message:
    """Parse one upload; an error of any kind becomes an answer."""
    try:
        operation, files, limits = _request(request, upload)
        with ExitStack() as opened:
            source = opened.enter_context(operation.parse(files, limits))
            document, arrays = pack(source.records)
            return Message({"records": document}, arrays)
    except KdmriError as error:
        return _refusal(error)
    except MemoryError:
        return _refusal(_too_large())
    except RecursionError:
        return _refusal(UnreadableInput("expected a file of ordinary depth, got one nested too deeply to read"))
    except Exception as error:
        # A library's own words may quote the file: only the kind of error is passed on.
        kind = type(error).__name__
        return _refusal(UnreadableInput(f"expected a file that can be read, got a damaged one ({kind})"))


def _request(request: Json, upload: int) -> tuple[Operation, Sequence[SourceFile], Limits]:
    """Return the operation, files and limits of a request."""
    # The service is trusted: a request that does not fit raises, and ends as an answer like any other error.
    fields = cast(dict[str, Json], request)
    (operation,) = (kind for kind in OPERATIONS if kind.name == fields["operation"])
    files = [
        SourceFile(BufferedReader(Window(upload, start, size)), media_type)
        for start, size, media_type in cast(list[tuple[int, int, str]], fields["files"])
    ]
    return operation.model_validate(fields["parameters"]), files, Limits(**cast(dict[str, int], fields["limits"]))


def _refusal(error: KdmriError) -> Message:
    return Message({"error": type(error).__name__, "detail": str(error)})


def _too_large() -> KdmriError:
    return UnsupportedInput(
        "expected a file that can be unpacked in the memory set aside for reading, got a larger one"
    )


ERRORS = {kind.__name__: kind for kind in (InvalidRequest, UnreadableInput, UnsupportedInput)}
"""Errors that a worker may answer with; the nursery adds none, and subclasses are found by `error_named`."""


def error_named(name: Json, detail: Json) -> KdmriError:
    """Return the error of a refusal. An unknown name, which only a worker that lies sends, is an unreadable file."""
    known = {kind.__name__: kind for base in ERRORS.values() for kind in (base, *base.__subclasses__())}
    # The text goes to the client and to a header of the log: a hostile worker may write neither control characters nor
    # pages.
    text = "".join(letter for letter in str(detail)[:1000] if letter.isprintable())
    return known.get(str(name), UnreadableInput)(text)


if __name__ == "__main__":
    sys.exit("this module is run by the nursery")
