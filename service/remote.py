"""A client of the service's jobs, for the command line."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TypedDict, cast

import httpx2

from kdmri.errors import InvalidRequest

TIMEOUT_SECONDS = 300
"""Longest time without a byte, in either direction."""
LOOK_SECONDS = 0.5
AWAY_SECONDS = 120
"""Time for which a service may be away while a job is followed: it may be restarting."""
FINAL = ("done", "failed", "cancelled")


class Problem(TypedDict):
    """The part of a job's problem that a person reads."""

    detail: str


class Status(TypedDict):
    """The part of a job's status that commands show."""

    id: str
    state: str
    position: int | None
    stage: str | None
    slices_done: int
    slices: int | None
    warning: str | None
    notes: str | None
    problem: Problem | None


class JobClient:
    """Jobs of one service."""

    def __init__(self, address: str, key: str | None) -> None:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._address = address
        self._http = httpx2.Client(base_url=address, headers=headers, timeout=TIMEOUT_SECONDS)

    def submit(self, operation: str, files: Sequence[Path], parameters: Mapping[str, str], accept: str) -> Status:
        """Submit files as one job; the same ones again are the same job.

        Args:
            operation: reconstruct or super-resolve.
            files: The files of one input.
            parameters: Parameters of the operation.
            accept: Media type of the answer.

        Returns:
            The job's status.

        Raises:
            InvalidRequest: The service refuses the job.
            ConnectionError: It can't be reached.
        """
        with ExitStack() as opened:
            # The file's name is not sent: it may name a patient.
            parts = [("file", ("file", opened.enter_context(path.open("rb")))) for path in files]
            answer = self._call(
                "POST",
                "/jobs",
                params={"operation": operation, **parameters},
                files=parts,
                headers={"accept": accept},
            )
        return cast(Status, answer.json())

    def status(self, job: str) -> Status:
        """Return the status of a job."""
        return cast(Status, self._call("GET", f"/jobs/{job}").json())

    def follow(self, job: str) -> Iterator[Status]:
        """Yield the status of a job again and again, and at last that of its end."""
        seen = time.monotonic()
        while True:
            try:
                status = self.status(job)
                seen = time.monotonic()
            except ConnectionError:
                if time.monotonic() > seen + AWAY_SECONDS:
                    raise
            else:
                yield status
                if status["state"] in FINAL:
                    return
            time.sleep(LOOK_SECONDS)

    def fetch(self, job: str) -> bytes:
        """Return the answer to a job. Raises InvalidRequest with its problem if it has none."""
        return self._call("GET", f"/jobs/{job}/result").content

    def cancel(self, job: str) -> Status:
        """Cancel a job, or erase one that has ended."""
        return cast(Status, self._call("DELETE", f"/jobs/{job}").json())

    def _call(self, method: str, path: str, **options: object) -> httpx2.Response:
        try:
            answer = self._http.request(method, path, **options)  # type: ignore[arg-type]
        except httpx2.TransportError as error:
            raise ConnectionError(
                f"expected a service at {self._address}, got {type(error).__name__}: is it running?"
            ) from None
        if answer.is_success:
            return answer
        if answer.headers.get("content-type") == "application/problem+json":
            raise InvalidRequest(str(answer.json()["detail"]))
        raise InvalidRequest(f"expected an answer of kdmri, got status {answer.status_code}")
