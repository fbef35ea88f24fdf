"""Messages arrive as they were sent, and whatever is no message is refused before it is used."""

import json
import os
import socket
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from kdmri_service.engine.parsing.messages import HEADER, BrokenMessage, Message, receive, send

LIMIT = 2**20
shapes = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
contents = st.lists(
    st.sampled_from(["bool", "uint8", "int64", "float32", "float64", "complex64"]).flatmap(
        lambda name: arrays.arrays(name, shapes)
    ),
    max_size=4,
)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of a connection."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ours.settimeout(5)
        yield ours, theirs


@given(contents=contents, trusted=st.booleans())
def test_messages_arrive_as_they_were_sent(contents: list[np.ndarray], trusted: bool) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        send(theirs, Message({"a": [1, None, "ä"]}, contents))
        message, descriptors = receive(ours, limit=LIMIT, trusted=trusted)
    assert (message.data, descriptors) == ({"a": [1, None, "ä"]}, [])
    for sent, came in zip(contents, message.arrays, strict=True):
        assert came.dtype == sent.dtype
        np.testing.assert_array_equal(came, sent)
        assert came.flags.writeable


def raw(theirs: socket.socket, content: bytes, length: int, *, sealable: bool = True) -> None:
    """Send bytes in a memory file, whatever they are."""
    memory = os.memfd_create("test", os.MFD_ALLOW_SEALING if sealable else 0)
    os.write(memory, content)
    socket.send_fds(theirs, [HEADER.pack(length)], [memory])
    os.close(memory)


def lie(**place: object) -> bytes:
    """Return a document with one array of 64 float32 that is described wrongly."""
    described = {"dtype": "float32", "shape": [64], "offset": 0, **place}
    document = json.dumps({"data": 1, "arrays": [described]}).encode()
    return document.ljust(-(-len(document) // 64) * 64, b" ") + bytes(256)


LIES = {
    "not JSON": b"\xff" * 64,
    "no document": b"[]",
    "deep": b"[" * 100_000,
    "no arrays": b'{"data": 1}',
    "an object array": lie(dtype="object"),
    "a string array": lie(dtype="U8"),
    "a negative side": lie(shape=[-64]),
    "a side that is no number": lie(shape=["64"]),
    "a boolean side": lie(shape=[True]),
    "a fractional side": lie(shape=[1.5]),
    "a side that overflows": lie(shape=[2**62, 4]),
    "more than there is": lie(shape=[65]),
    "beyond the end": lie(offset=64),
    "before the beginning": lie(offset=-64),
    "between two places": lie(offset=4),
    "many sides": lie(shape=[1] * 40),
    "a shape that is no list": lie(shape=64),
    "a missing shape": lie().replace(b'"shape"', b'"shapf"'),
}


@pytest.mark.parametrize("content", LIES.values(), ids=LIES)
def test_lies_are_refused(content: bytes, pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    raw(theirs, content, content.rstrip(b"\0").__len__())
    with pytest.raises(BrokenMessage):
        receive(ours, limit=LIMIT)


@pytest.mark.parametrize("length", [0, 1000, 2**63])
def test_a_document_lies_within_its_file(length: int, pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    raw(theirs, b'{"data": 1, "arrays": []}', length)
    with pytest.raises(BrokenMessage):
        receive(ours, limit=LIMIT)


def test_more_than_the_limit_is_refused(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    send(theirs, Message(1, [np.zeros(LIMIT, np.uint8)]))
    with pytest.raises(BrokenMessage, match="in all"):
        receive(ours, limit=LIMIT)


def test_what_can_change_after_the_check_is_refused(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    raw(theirs, b'{"data": 1, "arrays": []}', 25, sealable=False)
    with pytest.raises(BrokenMessage):
        receive(ours, limit=LIMIT)


def test_an_ended_sender_is_no_message(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    theirs.close()
    with pytest.raises(BrokenMessage):
        receive(ours, limit=LIMIT)


def test_refused_descriptors_are_closed(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    raw(theirs, b"no message", 10)
    with pytest.raises(BrokenMessage):
        receive(ours, limit=LIMIT)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
