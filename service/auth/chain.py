"""Chain of lines: an append-only file of JSON lines, each of which holds the SHA-256 of the line before it.

A file beside it, `<name>.head`, holds the number and the hash of the last line. Writers take turns by a lock on the
head, so that several processes can extend one chain; and because the head outlives the rotation of the file, the first
line of a new file continues the last line of the old one. Whoever may write to both files can also write a new chain
from any line on: to find that, compare a hash that was noted elsewhere (`find`).
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue, TypeAdapter, ValidationError

GENESIS = "0" * 64
"""The hash that the first line of a chain holds."""
PRIVATE = 0o600
LONGEST_LINE = 2**16
HEAD_FORMAT = "{:020d} {} {:020d} {:020d}\n"


@dataclass(frozen=True)
class Head:
    """The last line of a chain, and the file as it was after that line."""

    sequence: int = 0
    digest: str = GENESIS
    inode: int = 0
    size: int = 0


@dataclass(frozen=True)
class Link:
    """The two fields that tie a line to the line before it."""

    sequence: int
    previous: str


LINK: TypeAdapter[Link] = TypeAdapter(Link)


@dataclass(frozen=True)
class Break:
    """The first place at which a chain does not hold."""

    file: Path
    line: int
    reason: str


def head_file(path: Path) -> Path:
    """Return the file beside a chain that holds its head."""
    return path.with_name(path.name + ".head")


def append(path: Path, fields: Mapping[str, JsonValue]) -> None:
    """Append a line to a chain, which is created if there is none.

    Args:
        path: The file of the chain.
        fields: The content of the line.

    Raises:
        OSError: The line can't be written. Then the file is as it was before.
    """
    with hold_lock(head_file(path)) as memory, descriptor_of(path, os.O_RDWR | os.O_APPEND) as file:
        head = _current_head(memory, file)
        link = {"sequence": head.sequence + 1, "previous": head.digest}
        line = json.dumps({**link, **fields}, separators=(",", ":")).encode()
        before = os.fstat(file)
        _write_whole(file, line + b"\n", before.st_size)
        after = Head(head.sequence + 1, hashlib.sha256(line).hexdigest(), before.st_ino, before.st_size + len(line) + 1)
        # Of fixed width, so that a head is always overwritten as a whole.
        content = HEAD_FORMAT.format(after.sequence, after.digest, after.inode, after.size)
        os.pwrite(memory, content.encode(), 0)


def verify(files: Sequence[Path]) -> Head | Break:
    """Check a chain from its first line to its last.

    Args:
        files: The files of one chain, the oldest first: those that were rotated, then the current one. The oldest may
            begin in the middle of the chain.

    Returns:
        The last line, or the first place at which the chain does not hold. If the head of the last file is beside it,
        lines missing at the end are found, too.
    """
    last: Head | None = None
    number = 0
    for file in files:
        number = 0
        with file.open("rb") as stream:
            # Bounded: a damaged file may have no end of line at all.
            while line := stream.readline(LONGEST_LINE):
                number += 1
                checked = _check_line(line, last)
                if isinstance(checked, str):
                    return Break(file, number, checked)
                last = checked
    last = last or Head()
    newest = files[-1]
    if not head_file(newest).exists():
        return last
    try:
        head = _parse_head(head_file(newest).read_bytes())
    except OSError as error:
        return Break(head_file(newest), 1, str(error))
    # A process that was killed between the two writes leaves a head that is one line behind: the next one mends it.
    if (head.sequence, head.digest) == (last.sequence, last.digest) or head.sequence + 1 == last.sequence:
        return last
    if head.sequence == last.sequence:
        return Break(newest, number, "expected the last line as it was written, it was changed")
    return Break(newest, number, f"expected the chain to end at number {head.sequence}, it ends at {last.sequence}")


def find(files: Sequence[Path], digest: str) -> bool:
    """Return whether a line with this hash, noted elsewhere when it was the last, is in a chain."""
    for file in files:
        with file.open("rb") as stream:
            if any(hashlib.sha256(line.rstrip(b"\n")).hexdigest() == digest for line in stream):
                return True
    return False


def _check_line(line: bytes, before: Head | None) -> Head | str:
    """Return the line as the head that it was, or what is wrong with it."""
    if not line.endswith(b"\n"):
        return "expected a whole line, it is cut short"
    try:
        link = LINK.validate_json(line)
    except ValidationError:
        return "expected a JSON object with sequence and previous, got something else"
    if before is None:
        # Older files may have been removed after their time; only number 1 has a known predecessor.
        before = Head() if link.sequence == 1 else Head(link.sequence - 1, link.previous)
    if link.sequence != before.sequence + 1:
        return f"expected number {before.sequence + 1}, got {link.sequence}: lines were removed, added or moved"
    if link.previous != before.digest:
        return "expected the hash of the line before, got another one: the line before was changed"
    return Head(link.sequence, hashlib.sha256(line.rstrip(b"\n")).hexdigest())


def _current_head(memory: int, file: int) -> Head:
    """Return the head, brought up to date where a writer was killed between its line and its head."""
    content = os.pread(memory, 256, 0)
    head = _parse_head(content) if content else Head()
    status = os.fstat(file)
    if status.st_size == 0 or (status.st_ino, status.st_size) == (head.inode, head.size):
        return head
    start = max(0, status.st_size - LONGEST_LINE)
    tail = os.pread(file, status.st_size - start, start)
    # Where the file does not fit the head, the chain goes on from the head: `verify` then finds the place.
    checked = _check_line(tail.rstrip(b"\n").rpartition(b"\n")[2] + b"\n", head)
    return checked if isinstance(checked, Head) else head


def _parse_head(content: bytes) -> Head:
    """Return a head. Raises OSError if it is damaged: to start anew would hide what was removed."""
    try:
        sequence, digest, inode, size = content.decode("ascii").split()
        return Head(int(sequence), digest, int(inode), int(size))
    except ValueError:
        raise OSError("expected the head of a chain, got something else") from None


def _write_whole(file: int, content: bytes, size: int) -> None:
    """Append all of the content or nothing: a full disk may take a part of it."""
    try:
        written = os.write(file, content)
    except OSError:
        os.ftruncate(file, size)
        raise
    if written != len(content):
        os.ftruncate(file, size)
        raise OSError("expected a whole line to fit the disk, it did not")


@contextmanager
def hold_lock(path: Path) -> Iterator[int]:
    """Open a file and hold its lock, which closing it releases."""
    with descriptor_of(path, os.O_RDWR) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor


@contextmanager
def descriptor_of(path: Path, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, PRIVATE)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
