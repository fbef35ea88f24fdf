"""The audit trail: one line for each request, in a chain of lines, without patient data.

Lines hold what the service itself knows of a request: validated parameters, hashes, figures. Nothing that a client may
word freely, such as a file's name or a parameter that was refused, gets into them.
"""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import structlog
from kdmri_service.auth import chain
from kdmri_service.observability import metrics
from pydantic import JsonValue

import kdmri
from kdmri.errors import InvalidRequest
from kdmri.operations.operation import SourceFile

log = structlog.get_logger()

LONGEST_NAME = 80


@dataclass
class Entry:
    """A line of the trail, about one request."""

    peer: str | None
    """Address of the client."""
    operation: str = "none"
    time: datetime = field(default_factory=lambda: datetime.now(UTC))
    key: str | None = None
    """Name of the key, or subject of the token, that was used."""
    parameters: Mapping[str, JsonValue] = field(default_factory=dict)
    model: str | None = None
    """Name and version of the model, or models, that answered."""
    inputs: Sequence[str] = ()
    """SHA-256 of each file, in the order of the upload."""
    output: str | None = None
    """SHA-256 of the body of the response."""
    status: int = 0
    problem: str | None = None
    """Type of the problem that the response states."""
    seconds: float = 0.0

    def fields(self) -> dict[str, JsonValue]:
        """Return the content of the line."""
        return {
            "time": self.time.isoformat(timespec="milliseconds"),
            "peer": self.peer,
            # Cut, because the subject of a token may be of any length and a line of the chain may not.
            "key": self.key and self.key[:LONGEST_NAME],
            "operation": self.operation,
            "parameters": dict(self.parameters),
            "model": self.model,
            "input_sha256": list(self.inputs),
            "output_sha256": self.output,
            "status": self.status,
            "problem": self.problem,
            "seconds": round(self.seconds, 3),
        }


class AuditLog:
    """Writes entries in a thread of its own, one after the other, so that the event loop never waits for a disk."""

    def __init__(self, path: Path, *, required: bool = False) -> None:
        """Prepare the trail.

        Args:
            path: The file, made if there is none, which its owner alone can read.
            required: Whether requests are refused while entries can't be written.
        """
        self._path = path
        # One thread, so that lines are written in the order in which they were submitted.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="audit")
        self.required = required
        self.failing = False
        """Whether the last entry could not be written."""

    @property
    def refuses_work(self) -> bool:
        """Return whether requests must be refused now because they could not be recorded."""
        return self.required and self.failing

    def begin(self) -> None:
        """Record the start of the service. Raises InvalidRequest if nothing can be written."""
        if not self.submit(Entry(None, "start", parameters={"version": kdmri.__version__})).result():
            raise InvalidRequest("KDMRI_AUDIT: expected a file that can be written, its folder or disk refused")

    def submit(self, entry: Entry) -> "Future[bool]":
        """Have an entry written; the outcome is whether that succeeded."""
        return self._thread.submit(self._write, entry)

    async def record(self, entry: Entry) -> bool:
        """Write an entry, and return whether that succeeded."""
        return await asyncio.wrap_future(self.submit(entry))

    def close(self) -> None:
        """Record the end of the service, after all that is still to be written."""
        self.submit(Entry(None, "end"))
        self._thread.shutdown(wait=True)

    def _write(self, entry: Entry) -> bool:
        try:
            chain.append(self._path, entry.fields())
        except OSError as error:
            metrics.AUDIT_FAILURES.inc()
            # Logged once and counted every time: a full disk would otherwise fill the log, too.
            if not self.failing:
                log.error("the audit trail can't be written", error=type(error).__name__, number=error.errno)
            self.failing = True
        else:
            metrics.AUDIT_RECORDS.inc()
            self.failing = False
        return not self.failing


def digests(files: Sequence[SourceFile]) -> list[str]:
    """Return the SHA-256 of each file, and leave it positioned at its beginning; it may block."""
    found = []
    for source in files:
        if isinstance(source.file, Path):
            with source.file.open("rb") as stream:
                found.append(hashlib.file_digest(stream, "sha256").hexdigest())
        else:
            digest = hashlib.sha256()
            while piece := source.file.read(2**20):
                digest.update(piece)
            # The parser reads the same file next.
            source.file.seek(0)
            found.append(digest.hexdigest())
    return found
