"""Request bodies to files on disk, whatever the envelope, never more than the limit."""

import tempfile
from dataclasses import dataclass, field
from email.message import Message
from typing import BinaryIO, cast

from fastapi import Request
from kdmri_service.errors import TooLarge, UnsupportedMedia
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser

from kdmri.errors import InvalidRequest
from kdmri.operations.operation import SourceFile

IN_MEMORY = 2**20
"""Bytes of a part kept in memory before it goes to disk."""
MAX_PARTS = 10_000
MAX_HEADER = 16_384


@dataclass
class Part:
    """One uploaded file, positioned at its beginning."""

    media_type: str
    name: str
    """Of the form field; empty outside multipart/form-data."""
    file: BinaryIO


def media_type(value: str) -> tuple[str, dict[str, str]]:
    """A Content-Type header as lower-case type and parameters; quoted values are unquoted."""
    message = Message()
    message["content-type"] = value
    parameters = cast(list[tuple[str, str]], message.get_params(failobj=[("", "")], unquote=True))
    return parameters[0][0].lower(), {key.lower(): text for key, text in parameters[1:]}


async def receive(request: Request, *, raw: tuple[str, ...], limit: int) -> list[SourceFile]:
    """The files of a body: one for the `raw` media types, all parts for multipart ones.

    Raises UnsupportedMedia, TooLarge, or InvalidRequest where a multipart body is broken or holds no file.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise TooLarge(f"expected a body of at most {limit} bytes, got {declared}")
    kind, parameters = media_type(request.headers.get("content-type", ""))
    sink: _Raw | _Multipart
    if kind in raw:
        sink = _Raw(kind)
    elif kind in ("multipart/form-data", "multipart/related"):
        sink = _Multipart(parameters.get("boundary", ""), kind)
    else:
        offered = ", ".join((*raw, "multipart/form-data", "multipart/related"))
        raise UnsupportedMedia(f"expected Content-Type {offered}, got {kind or 'none'}")
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received > limit:
            raise TooLarge(f"expected a body of at most {limit} bytes, got more")
        sink.write(chunk)
    return [SourceFile(part.file, part.media_type) for part in sink.parts()]


def _new_file() -> BinaryIO:
    return cast(BinaryIO, tempfile.SpooledTemporaryFile(max_size=IN_MEMORY))


class _Raw:
    """A body that is the file."""

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
    """A multipart body, form or related, parsed as it streams in."""

    def __init__(self, boundary: str, kind: str) -> None:
        if not boundary:
            raise InvalidRequest(f"expected a boundary with Content-Type {kind}, got none")
        self.kind = kind
        self.found: list[Part] = []
        self.headers = _Headers()
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
        """Raises InvalidRequest where the body ended early or holds no file."""
        if not self.complete:
            raise InvalidRequest(f"expected a {self.kind} body with a closing boundary, it ended before")
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
