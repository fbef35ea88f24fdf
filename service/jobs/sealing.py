"""Sealed files: AES-256-GCM in chunks, so that a volume of gigabytes is neither held in memory nor trusted unchecked.

A file is a random prefix of seven bytes and chunks, each sealed with a nonce of that prefix, the chunk's number and a
flag for the last one (the STREAM construction, Hoang et al., CRYPTO 2015, eprint 2015/189). Chunks that are changed,
moved, left out or cut off are noticed, and no two chunks of a job share a nonce.
"""

import os
from collections.abc import Iterator
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kdmri.errors import UnreadableInput

CHUNK = 2**20
"""Bytes of content in a chunk: all that a reader has to hold before it knows that they are genuine."""
# AES-GCM takes nonces of 12 bytes: 7 of the prefix, 4 of the chunk's number (4 PiB in all) and 1 of the flag.
TAG = 16
PREFIX = 7


def new_key() -> bytes:
    """Return a random key of 256 bits."""
    return AESGCM.generate_key(256)


def seal(key: bytes, source: BinaryIO) -> Iterator[bytes]:
    """Yield the sealed form of a file, from its position to its end."""
    cipher, prefix = AESGCM(key), os.urandom(PREFIX)
    yield prefix
    # One chunk is read ahead, because the last one carries a flag: a file cut off between chunks is noticed by it.
    number, chunk = 0, source.read(CHUNK)
    while True:
        following = source.read(CHUNK)
        yield cipher.encrypt(_nonce(prefix, number, is_last=not following), chunk, None)
        if not following:
            return
        number, chunk = number + 1, following


def unseal(key: bytes, source: BinaryIO) -> Iterator[bytes]:
    """Yield the content of a sealed file, checked chunk by chunk.

    Raises:
        UnreadableInput: The file was changed or cut off, or was sealed with another key. Chunks that were yielded
            before are what was sealed, but the content is incomplete.
    """
    # A wrong prefix makes every nonce wrong, so that it needs no check of its own.
    cipher, prefix = AESGCM(key), source.read(PREFIX)
    number, chunk = 0, source.read(CHUNK + TAG)
    while True:
        following = source.read(CHUNK + TAG)
        try:
            yield cipher.decrypt(_nonce(prefix, number, is_last=not following), chunk, None)
        except (InvalidTag, ValueError):
            raise UnreadableInput("expected the file as it was sealed, got one that was changed or cut off") from None
        if not following:
            return
        number, chunk = number + 1, following


def _nonce(prefix: bytes, number: int, *, is_last: bool) -> bytes:
    return prefix + number.to_bytes(4, "big") + bytes([is_last])
