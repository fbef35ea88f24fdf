"""Uploads: the body of a request as files, whatever its envelope, and never more bytes than the limit."""

import tempfile
from dataclasses import dataclass, field
from email.message import Message
from email.utils import collapse_rfc2231_value
from typing import BinaryIO, cast

from anyio.to_thread import run_sync
from fastapi import Request
from kdmri_service.errors import TooLarge, UnsupportedMedia
from kdmri_service.storage import temporary_storage
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser

from kdmri.errors import InvalidRequest
from kdmri.operations.operation import SourceFile

IN_MEMORY = 2**20
"""Bytes of a part that are kept in memory; a longer one goes to disk."""
MAX_PARTS = 10_000
"""More than any series has slices; each part takes a file object and a few hundred bytes."""
MAX_HEADER = 16_384
"""Bytes of all headers of one part."""


@dataclass
class Part:
    """One uploaded file."""

    media_type: str
    name: str
    """Name of the form field; empty outside multipart/form-data."""
    file: BinaryIO


def media_type(value: str) -> tuple[str, dict[str, str]]:
    """Split a Content-Type header into its type, in lower case, and its parameters, unquoted.

    Parameters may be split, and have a character set and a language (RFC 2231); one that can't be read is left out.
    """
    message = Message()
    try:
        message["content-type"] = value
        (kind, _), *stated = cast(
            list[tuple[str, str | tuple[str | None, str | None, str]]],
            message.get_params(failobj=[("", "")], unquote=True),
        )
    except (ValueError, TypeError, AttributeError):
        # The standard library's parser raises any of these on hostile headers.
        return "", {}
    return kind.lower(), {name.lower(): collapse_rfc2231_value(text) for name, text in stated}


async def receive(request: Request, *, raw: tuple[str, ...], limit: int) -> list[SourceFile]:
    """Receive the files of a body, small ones in memory and large ones on disk.

    Args:
        request: A request whose body was not read yet.
        raw: Media types of a body that is the file itself; multipart bodies hold any number of files.
        limit: Largest body, in bytes.

    Returns:
        The files, positioned at their beginnings.

    Raises:
        UnsupportedMedia: The body is of another type.
        TooLarge: The body is larger than the limit.
        InvalidRequest: A multipart body is broken or holds no file.
        StorageFull: The temporary folder has no room left.
    """
    # A truthful client learns at once that its upload is too large; the bytes are counted below in any case.
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise TooLarge(f"expected a body of at most {limit} bytes, got {declared}")
    body_type, parameters = media_type(request.headers.get("content-type", ""))
    sink: _Raw | _Multipart
    if body_type in raw:
        sink = _Raw(body_type)
    elif body_type in ("multipart/form-data", "multipart/related"):
        sink = _Multipart(parameters.get("boundary", ""), body_type)
    else:
        accepted = ", ".join((*raw, "multipart/form-data", "multipart/related"))
        raise UnsupportedMedia(f"expected Content-Type {accepted}, got {body_type or 'none'}")
    received, pending = 0, bytearray()
    with temporary_storage():
        async for chunk in request.stream():
            received += len(chunk)
            if received > limit:
                raise TooLarge(f"expected a body of at most {limit} bytes, got more")
            pending += chunk
            if len(pending) >= IN_MEMORY:
                # A thread writes, because a disk blocks; in large pieces, because changing threads takes time too.
                await run_sync(sink.write, bytes(pending))
                pending.clear()
        # What is left is written here if it stays in memory, which takes less time than changing threads.
        await run_sync(sink.write, bytes(pending)) if received >= IN_MEMORY else sink.write(bytes(pending))
    return [SourceFile(part.file, part.media_type) for part in sink.parts()]


def _new_file() -> BinaryIO:
    return cast(BinaryIO, tempfile.SpooledTemporaryFile(max_size=IN_MEMORY))


class _Raw:
    """Writes a body that is the file."""

    def __init__(self, kind: str) -> None:
        self.part = Part(kind, "file", _new_file())

    def write(self, chunk: bytes) -> None:
        self.part.file.write(chunk)

    def parts(self) -> list[Part]:
        self.part.file.seek(0)
        return [self.part]


@dataclass
class _Headers:
    name: bytes = b""
    value: bytes = b""
    fields: dict[str, str] = field(default_factory=dict)


class _Multipart:
    """Writes the parts of a multipart body, form or related, as they arrive."""

    def __init__(self, boundary: str, kind: str) -> None:
        if not boundary:
            raise InvalidRequest(f"expected a boundary with Content-Type {kind}, got none")
        self.kind = kind
        self.found: list[Part] = []
        self.headers = _Headers()
        # Without the closing boundary the last part may be cut short, and would be read as a damaged file.
        self.complete = False
        self.parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._field,
                "on_header_value": self._value,
                "on_header_end": self._header,
                "on_headers_finished": self._part,
                "on_part_data": self._data,
                "on_end": self._end,
            },
        )

    def write(self, chunk: bytes) -> None:
        try:
            self.parser.write(chunk)
        except MultipartParseError:
            raise InvalidRequest(f"expected a {self.kind} body in parts, got one that breaks its boundary") from None

    def parts(self) -> list[Part]:
        """Return the files. Raises InvalidRequest if the body ended early or holds none."""
        if not self.complete:
            raise InvalidRequest(f"expected a {self.kind} body with a closing boundary, it ended before")
        # Forms may have other fields beside the files; multipart/related has no names, and every part is a file.
        files = [part for part in self.found if self.kind != "multipart/form-data" or part.name == "file"]
        if not files:
            names = ", ".join(sorted({part.name[:40] for part in self.found})) or "no part"
            raise InvalidRequest(f"expected a part named file, got {names}")
        for part in files:
            part.file.seek(0)
        return files

    def _begin(self) -> None:
        self.headers = _Headers()
        if len(self.found) >= MAX_PARTS:
            raise InvalidRequest(f"expected at most {MAX_PARTS} parts, got more")

    # The parser calls back with pieces: a header may come in several, wherever the network cut it.
    def _field(self, data: bytes, start: int, end: int) -> None:
        self.headers.name += data[start:end]
        self._check_header()

    def _value(self, data: bytes, start: int, end: int) -> None:
        self.headers.value += data[start:end]
        self._check_header()

    def _check_header(self) -> None:
        if len(self.headers.name) + len(self.headers.value) > MAX_HEADER:
            raise InvalidRequest(f"expected part headers of at most {MAX_HEADER} bytes, got more")

    def _header(self) -> None:
        headers = self.headers
        # latin-1 decodes any byte; HTTP promises no other encoding of header values.
        headers.fields[headers.name.decode("latin-1").lower()] = headers.value.decode("latin-1")
        headers.name = headers.value = b""

    def _part(self) -> None:
        kind, _ = media_type(self.headers.fields.get("content-type", "application/octet-stream"))
        _, disposition = media_type(self.headers.fields.get("content-disposition", ""))
        self.found.append(Part(kind, disposition.get("name", ""), _new_file()))

    def _data(self, data: bytes, start: int, end: int) -> None:
        self.found[-1].file.write(data[start:end])

    def _end(self) -> None:
        self.complete = True
