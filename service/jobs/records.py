"""Records of jobs: what the store keeps, and what passes between store, runner and transports."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from pydantic import JsonValue


class State(StrEnum):
    """A job's state."""

    queued = "queued"
    running = "running"
    done = "done"
    failed = "failed"
    cancelled = "cancelled"

    @property
    def is_final(self) -> bool:
        """Return whether the job has ended."""
        return self in (State.done, State.failed, State.cancelled)


@dataclass(frozen=True)
class Blob:
    """A sealed file of the spool, and the media type of its content."""

    sha256: str
    """SHA-256 of the sealed bytes: it names the file, and tells nothing about the content."""
    media_type: str


@dataclass(frozen=True)
class Outcome:
    """The sealed answer to a job."""

    blob: Blob
    headers: Mapping[str, str]
    """Headers of the answer, such as model, quality and warnings."""


@dataclass(frozen=True)
class Failure:
    """Why a job failed."""

    error: str
    """Name of the error's class, which a transport translates into its own statuses."""
    detail: str
    """What was expected and what came, without patient data."""
    stage: str | None


@dataclass(frozen=True)
class Submission:
    """A job to be stored; its files are in the spool."""

    id: str
    owner: str
    operation: str
    parameters: Mapping[str, JsonValue]
    accept: str | None
    """Media types of the answer, as the client stated them."""
    preferred: str | None
    """Media type that is chosen among equals."""
    inputs: Sequence[Blob]
    input_bytes: int
    identity: str
    """Equal for submissions that are one job."""
    fingerprint: str
    """SHA-256 of operation, parameters, model and input."""
    key: bytes
    batch_key: str
    """Equal for jobs that may share a run of the networks if their sizes are equal, too."""


@dataclass(frozen=True)
class Job:
    """A job as the store knows it."""

    id: str
    owner: str
    state: State
    operation: str
    parameters: Mapping[str, JsonValue]
    accept: str | None
    preferred: str | None
    inputs: Sequence[Blob]
    fingerprint: str | None
    key: bytes | None
    """Key of its files; None once they are erased."""
    attempt: int
    failures: int
    cancel_requested: bool
    stage: str | None
    slices_done: int
    slices: int | None
    result: Outcome | None
    error: Failure | None
    created: float
    ended: float | None
    erased: float | None


@dataclass(frozen=True)
class Event:
    """The end of a job, to be announced."""

    job: str
    event: str
    seconds: float
    """Time from the job's submission to its end."""


@dataclass(frozen=True)
class Backlog:
    """Figures of the queue."""

    counts: Mapping[State, int]
    """Number of jobs in each state."""
    oldest_seconds: float
    """Age of the oldest job that waits; 0 if none does."""
    seconds: float
    """Time that one worker needs for all jobs that wait, estimated from the jobs that ended last."""
