"""API keys: 256 random bits, kept as SHA-256 in a file of JSON lines.

A random key needs no slow hash: nobody can guess 256 bits, and a slow one would cost every request. The file is read
again when it changes, so that keys are added and revoked without a restart. Lines are only ever appended; a later line
of the same id takes the place of an earlier one.
"""

import hashlib
import json
import os
import secrets
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from kdmri_service.auth.principals import Principal, Scope
from pydantic import TypeAdapter, ValidationError

from kdmri.errors import InvalidRequest

PREFIX = "kdmri_"
"""Lets secret scanners recognise a key that got into a repository."""
KEY_BYTES = 32
"""Random bytes of a key: nobody can guess 256 bits."""


@dataclass(frozen=True)
class KeyRecord:
    """A line of the key file; the key itself is not in it."""

    id: str
    name: str
    sha256: str
    scopes: tuple[Scope, ...]
    created: datetime
    expires: datetime | None = None
    revoked: bool = False

    def is_valid(self, now: datetime) -> bool:
        """Return whether the key may be used at a time."""
        return not self.revoked and (self.expires is None or now < self.expires)


RECORD: TypeAdapter[KeyRecord] = TypeAdapter(KeyRecord)


def add_key(file: Path, name: str, scopes: Sequence[Scope], expires: datetime | None = None) -> str:
    """Make a key and append it to a key file, which is created if there is none.

    Args:
        file: The key file.
        name: Names the key in logs and audit records; several keys may have one name while they are rotated.
        scopes: What the key allows.
        expires: From when on it is refused.

    Returns:
        The key. It is nowhere else: who loses it needs a new one.
    """
    key = PREFIX + secrets.token_urlsafe(KEY_BYTES)
    record = KeyRecord(secrets.token_hex(4), name, _digest(key), tuple(scopes), datetime.now(UTC), expires)
    _append(file, record)
    return key


def revoke_key(file: Path, name_or_id: str) -> int:
    """Revoke the keys of a name, or the one of an id.

    Returns:
        The number of keys that were valid until now.

    Raises:
        InvalidRequest: There is no such key.
    """
    matching = [record for record in read_keys(file) if name_or_id in (record.name, record.id)]
    if not matching:
        raise InvalidRequest(f"expected the name or id of a key, got {name_or_id[:80]!r}")
    valid = [record for record in matching if record.is_valid(datetime.now(UTC))]
    for record in valid:
        _append(file, replace(record, revoked=True))
    return len(valid)


def read_keys(file: Path) -> list[KeyRecord]:
    """Return the keys of a file, in the order in which they were made.

    Raises:
        InvalidRequest: The file can't be read, or a line is not a key. A file that is read in part would let a
            revoked key in.
    """
    try:
        lines = file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"expected a key file that can be read, got {type(error).__name__}") from None
    records: dict[str, KeyRecord] = {}
    # Later lines replace earlier ones of the same id: a revocation is a line like any other.
    for number, line in enumerate(lines, start=1):
        try:
            record = RECORD.validate_json(line)
        except ValidationError:
            raise InvalidRequest(f"expected a key in line {number} of the key file, got something else") from None
        records[record.id] = record
    return list(records.values())


class KeyStore:
    """The keys of a file, as they are now."""

    def __init__(self, file: Path) -> None:
        """Read the file. Raises InvalidRequest where it can't be."""
        self._file = file
        self._lock = threading.Lock()
        self._seen = self._stamp()
        self._by_digest = {record.sha256: record for record in read_keys(file)}

    def authenticate(self, key: str) -> Principal | None:
        """Return who a key belongs to, or None if it is unknown, revoked or expired.

        Raises:
            InvalidRequest: The file changed and can't be read any more: then no key is accepted.
        """
        with self._lock:
            if (stamp := self._stamp()) != self._seen:
                self._by_digest = {record.sha256: record for record in read_keys(self._file)}
                self._seen = stamp
            # A look-up by hash leaks no key by its time: who could steer the hash would have to know its preimage.
            record = self._by_digest.get(_digest(key))
        if record is None or not record.is_valid(datetime.now(UTC)):
            return None
        return Principal(record.name, frozenset(record.scopes))

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            status = self._file.stat()
        except OSError:
            return None
        # The inode shows a file that was replaced within the resolution of the clock by one of the same size.
        return status.st_mtime_ns, status.st_size, status.st_ino


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _append(file: Path, record: KeyRecord) -> None:
    """Append a line in one write, which no other writer's line can come between."""
    line = json.dumps(RECORD.dump_python(record, mode="json")) + "\n"
    # 0600: the file holds no keys, but the names and rights of those who have one.
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)
