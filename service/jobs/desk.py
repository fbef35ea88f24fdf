"""The desk: where transports hand jobs in, ask for them, fetch results and cancel."""

import asyncio
import hashlib
import json
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import structlog
from anyio.to_thread import run_sync
from kdmri_service.engine.engine import Request
from kdmri_service.errors import ErasedJob, UnfinishedJob
from kdmri_service.jobs.housekeeping import Housekeeping, erase
from kdmri_service.jobs.records import Job, Outcome, State, Submission
from kdmri_service.jobs.runner import Runner
from kdmri_service.jobs.sealing import CHUNK, new_key
from kdmri_service.jobs.spool import Spool
from kdmri_service.jobs.store import BY_KEY, Store

from kdmri.operations.operation import BOTH, SourceFile

log = structlog.get_logger()


@dataclass(frozen=True)
class Wishes:
    """What a client wants of a job beside its parameters."""

    owner: str
    accept: str | None
    """Media types of the answer, as the client stated them."""
    preferred: str | None
    """Media type that is chosen among equals."""
    idempotency_key: str | None = None


class Desk:
    """Durable jobs, as a transport sees them."""

    def __init__(self, store: Store, spool: Spool, runner: Runner, housekeeping: Housekeeping) -> None:
        self._store, self._spool, self._runner, self._housekeeping = store, spool, runner, housekeeping
        self._cleaning: asyncio.Task[None] | None = None

    def start(self, lanes: int) -> None:
        """Begin to run jobs, `lanes` claims at a time."""
        self._cleaning = asyncio.create_task(self._housekeeping.run())
        self._runner.start(lanes)

    async def close(self) -> None:
        """Give back what runs, and close the database."""
        await self._runner.close()
        if self._cleaning is not None:
            self._cleaning.cancel()
            with suppress(asyncio.CancelledError):
                await self._cleaning
        await run_sync(self._store.database.close)

    async def require_room(self, size: int) -> None:
        """Raise StorageFull if the spool has no room for files of this size."""
        await run_sync(self._spool.require_room, size)

    async def submit(self, request: Request, wishes: Wishes, files: Sequence[SourceFile]) -> Job:
        """Store a job, durably, or return the one that this submission repeats.

        Args:
            request: The admitted request.
            wishes: Who wants it, and how.
            files: Its files, which are closed.

        Returns:
            The stored job.

        Raises:
            StorageFull: The spool has no room.
            DifferentJob: The Idempotency-Key is that of another job.
            StoreUnavailable: The database can't be reached.
        """
        try:
            job = await run_sync(self._submit, request, wishes, files)
        finally:
            for source in files:
                if not isinstance(source.file, Path):
                    await run_sync(source.file.close)
        self._runner.wake()
        return job

    async def find(self, job_id: str) -> tuple[Job, int | None]:
        """Return a job, and the number of jobs ahead of it while it waits. Raises UnknownJob if there is none."""
        return await run_sync(self._find, job_id)

    async def cancel(self, job: Job) -> Job:
        """Cancel a job that waits or runs; erase the data of one that has ended."""
        if job.state.is_final:
            await run_sync(lambda: erase(self._store, self._spool, job.id, reason="request"))
            return (await self.find(job.id))[0]
        # The store first: a worker of another process learns of it there, by its next heartbeat.
        cancelled = await run_sync(self._store.cancel, job.id)
        self._runner.cancel(job.id)
        if cancelled.state == State.cancelled:
            for blob in job.inputs:
                await run_sync(self._spool.delete, blob.sha256)
        return cancelled

    async def result(self, job: Job) -> tuple[Outcome, BinaryIO]:
        """Return the answer to a job: its type and headers, and its content.

        Raises:
            UnfinishedJob: It waits or runs.
            ErasedJob: It was cancelled or erased.
        """
        if not job.state.is_final:
            raise UnfinishedJob(f"expected a job that is done, this one is {job.state}")
        if job.result is None or job.key is None:
            raise ErasedJob("expected a job with a result, this one was cancelled or erased")
        try:
            return job.result, await run_sync(self._spool.read_file, job.key, job.result.blob)
        except FileNotFoundError:
            # Erased between the look at the job and the opening of its file.
            raise ErasedJob("expected a job with a result, this one was erased") from None

    def _find(self, job_id: str) -> tuple[Job, int | None]:
        job = self._store.get(job_id)
        return job, self._store.position(job)

    def _submit(self, request: Request, wishes: Wishes, files: Sequence[SourceFile]) -> Job:
        parameters = request.operation.model_dump(mode="json")
        if request.operation.role != BOTH:
            # Pinned, so that the answer is by the model that was the newest when the job was accepted.
            parameters["model"] = request.models[0].manifest.reference
        models = [model.manifest.reference for model in request.models]
        task = [request.operation.name, parameters, models, wishes.accept, wishes.preferred]
        contents = [_digest(source) for source in files]
        # Models are part of it: the same input after an upgrade is another job, with another answer.
        fingerprint = _sha256(json.dumps([*task, [digest for digest, _ in contents]], sort_keys=True))
        identity = f"content:{fingerprint}"
        if wishes.idempotency_key is not None:
            # Hashed, because a client may put anything into the header, and the column has a length.
            identity = BY_KEY + _sha256(wishes.idempotency_key)
        if (same := self._store.find_same(wishes.owner, identity, fingerprint)) is not None:
            return same
        size = sum(size for _, size in contents)
        self._spool.require_room(size)
        # A key for each job: deleting it erases this job's files and no others, wherever copies of them lie.
        key = new_key()
        # All files are durable before a row refers to them.
        inputs = [self._spool.write(key, cast(BinaryIO, source.file), source.media_type) for source in files]
        new = Submission(
            id=uuid.uuid4().hex,
            owner=wishes.owner,
            operation=request.operation.name,
            parameters=parameters,
            accept=wishes.accept,
            preferred=wishes.preferred,
            inputs=inputs,
            input_bytes=size,
            identity=identity,
            fingerprint=fingerprint,
            key=key,
            batch_key=_sha256(json.dumps(task, sort_keys=True)),
        )
        job = self._store.submit(new)
        # Another submission of the same job was faster: nothing refers to the files that were written here.
        if job.id != new.id:
            for blob in inputs:
                self._spool.delete(blob.sha256)
        else:
            log.info("job accepted", job=job.id, operation=job.operation, bytes=size)
        return job


def _digest(source: SourceFile) -> tuple[str, int]:
    """Return the SHA-256 and the size of an open file, and leave it at its beginning."""
    digest, size, file = hashlib.sha256(), 0, cast(BinaryIO, source.file)
    while chunk := file.read(CHUNK):
        digest.update(chunk)
        size += len(chunk)
    file.seek(0)
    return digest.hexdigest(), size


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
