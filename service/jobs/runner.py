"""The runner: takes jobs from the store and runs them on this process's engine, as many at a time as it has turns."""

import asyncio
import io
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial

import structlog
from anyio.to_thread import run_sync
from kdmri_service.engine.answer import Answer
from kdmri_service.engine.engine import Engine
from kdmri_service.errors import Overloaded, StorageFull, StoreUnavailable
from kdmri_service.jobs.leases import Claim, Hold, Leases, Progress
from kdmri_service.jobs.records import Failure, Job, Outcome
from kdmri_service.jobs.spool import Spool
from kdmri_service.observability.observation import Observation, track_request

from kdmri.errors import KdmriError
from kdmri.operations import Operation
from kdmri.operations.operation import SourceFile
from kdmri.runtime.stages import counting_slices

log = structlog.get_logger()

POLL_SECONDS = 1.0
"""Time between two looks into a store that had no job: other processes submit, too."""
BEAT_SECONDS = 1.0
"""Longest time between two heartbeats: as old may the progress be that a client sees, and a cancellation."""
BEATS_PER_LEASE = 4
FULL_SECONDS = 30.0
"""Pause of a lane whose result found no room on the disk."""

Negotiate = Callable[[str | None, str | None, Sequence[str]], str]
"""Chooses a media type by the client's header, the type preferred among equals, and the types offered."""


class Runner:
    """Runs jobs until it is closed. Whatever it holds then goes back to the store."""

    def __init__(
        self,
        engine: Engine,
        leases: Leases,
        spool: Spool,
        operations: Sequence[type[Operation]],
        *,
        negotiate: Negotiate,
        status_of: Callable[[BaseException], int],
        may_claim: Callable[[], bool],
    ) -> None:
        """Prepare; `start` begins.

        Args:
            engine: Runs the jobs, beside the requests that clients wait for.
            leases: The store's side for workers.
            spool: Inputs and results.
            operations: The operations that jobs may name.
            negotiate: The transport's choice of a media type.
            status_of: The status under which an error is counted.
            may_claim: Returns False once the service is ending.
        """
        self._engine, self._leases, self._spool = engine, leases, spool
        self._operations = {operation.name: operation for operation in operations}
        self._negotiate, self._status_of, self._may_claim = negotiate, status_of, may_claim
        self._worker = f"{socket.gethostname()[:40]}-{os.getpid()}"
        self._news = asyncio.Event()
        self._ending = asyncio.Event()
        self._attempts: dict[str, asyncio.Task[Answer]] = {}
        self._verdicts: dict[str, Hold] = {}
        self._lanes: list[asyncio.Task[None]] = []

    def start(self, lanes: int) -> None:
        """Begin to take jobs, `lanes` claims at a time."""
        self._lanes = [asyncio.create_task(self._lane()) for _ in range(lanes)]

    def wake(self) -> None:
        """Look for jobs now."""
        self._news.set()

    def cancel(self, job_id: str) -> None:
        """Stop a job if it runs here; the store already knows that its client cancelled it."""
        if (work := self._attempts.get(job_id)) is not None:
            self._verdicts[job_id] = Hold.cancelled
            work.cancel()

    async def close(self) -> None:
        """Stop all jobs that run, and give them back."""
        self._ending.set()
        # A lane may be waiting for jobs: it must see that it is to stop.
        self._news.set()
        for work in self._attempts.values():
            work.cancel()
        await asyncio.gather(*self._lanes, return_exceptions=True)

    async def _lane(self) -> None:
        while not self._ending.is_set():
            claims = await self._claim()
            if claims:
                ends = await asyncio.gather(*(self._attempt(claim) for claim in claims), return_exceptions=True)
                # A lane outlives whatever its jobs meet, such as a disk that fails: their leases end, and they return.
                for error in ends:
                    if error is not None:
                        log.error("the end of a job can't be kept", error=type(error).__name__)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._news.wait()
                self._news.clear()

    async def _claim(self) -> list[Claim]:
        if not self._may_claim():
            return []
        try:
            # As many as share one pass of the networks: they run together, and end together.
            return await run_sync(self._leases.claim, self._worker, self._engine.scheduler.batch)
        except StoreUnavailable:
            log.warning("no job can be taken: the jobs database does not answer")
            return []

    async def _attempt(self, claim: Claim) -> None:
        """Run one job to whatever end it takes, and commit that."""
        job, observation = claim.job, Observation(claim.job.operation)
        with structlog.contextvars.bound_contextvars(job=job.id, attempt=claim.attempt):
            # A task of its own, so that a lost lease can cancel the work and leave its end to be committed here.
            work = asyncio.create_task(self._run(job, observation))
            self._attempts[job.id] = work
            beats = asyncio.create_task(self._beat(claim, observation, work))
            if self._ending.is_set():
                work.cancel()
            try:
                await asyncio.wait({work})
                await self._settle(claim, work, observation)
            finally:
                beats.cancel()
                self._attempts.pop(job.id, None)
                self._verdicts.pop(job.id, None)

    async def _run(self, job: Job, observation: Observation) -> Answer:
        operation = self._operations[job.operation].model_validate(dict(job.parameters))
        with (
            track_request(operation.name, operation.role, status_of=self._status_of, observation=observation),
            counting_slices(observation.count_slices),
        ):
            choose_type = partial(self._negotiate, job.accept, job.preferred)
            request = self._engine.admit(operation, choose_type, observation, client=job.owner)
            files = await run_sync(self._files, job)
            return await self._engine.run(request, files)

    def _files(self, job: Job) -> list[SourceFile]:
        # A job without a key was erased meanwhile: reading fails as for a changed file, and the claim is lost.
        key = job.key or b""
        return [SourceFile(self._spool.read_file(key, blob), blob.media_type) for blob in job.inputs]

    async def _beat(self, claim: Claim, observation: Observation, work: asyncio.Task[Answer]) -> None:
        """Extend the lease while the job runs and its result is committed; stop it once it is no more ours."""
        pause = min(BEAT_SECONDS, self._leases.seconds / BEATS_PER_LEASE)
        while True:
            await asyncio.sleep(pause)
            try:
                hold = await run_sync(self._leases.beat, claim, _progress(observation))
            except StoreUnavailable:
                # The work goes on: if the database returns in time, nothing was lost.
                log.warning("no heartbeat: the jobs database does not answer")
                continue
            if hold != Hold.held:
                self._verdicts[claim.job.id] = hold
                work.cancel()

    async def _settle(self, claim: Claim, work: asyncio.Task[Answer], observation: Observation) -> None:
        """Commit the end of an attempt."""
        job, stage = claim.job, observation.stage
        if work.cancelled():
            # Without a verdict the service itself is ending.
            verdict = self._verdicts.get(job.id)
            if verdict is None:
                await self._commit(partial(self._leases.release, claim))
            elif verdict == Hold.cancelled and await self._commit(partial(self._leases.cancel, claim)):
                await self._delete_inputs(job)
            return
        error = work.exception()
        if error is None:
            await self._finish(claim, work.result(), observation.slices_expected or 0)
        elif isinstance(error, Overloaded):
            # Requests that clients wait for go first: the job returns to the store and does not count as failed.
            await self._commit(partial(self._leases.release, claim))
            await self._pause(POLL_SECONDS)
        elif isinstance(error, KdmriError):
            # The input or the parameters are at fault, and would be again.
            failure = Failure(type(error).__name__, str(error), stage)
            if await self._commit(partial(self._leases.fail, claim, failure)):
                await self._delete_inputs(job)
        else:
            # Its message may quote the input, so that only its type is logged.
            log.error("a job's attempt failed", error=type(error).__name__, stage=stage)
            detail = "the service failed on this job; its log has an entry under the job's id"
            await self._commit(partial(self._leases.give_up, claim, Failure("Unforeseen", detail, stage)))

    async def _finish(self, claim: Claim, answer: Answer, slices: int) -> None:
        await run_sync(answer.close)
        seal = partial(self._seal, claim.job.key or b"", answer)
        try:
            outcome = await run_sync(seal)
        except StorageFull:
            # Nothing is wrong with the job: it waits until there is room.
            log.warning("a result finds no room in the spool")
            await self._commit(partial(self._leases.release, claim))
            await self._pause(FULL_SECONDS)
            return
        if await self._commit(partial(self._leases.finish, claim, outcome, slices)):
            await self._delete_inputs(claim.job)
            return
        # The job was cancelled meanwhile, or another worker has it: this result is nobody's.
        await run_sync(self._spool.delete, outcome.blob.sha256)
        await self._commit(partial(self._leases.cancel, claim))

    def _seal(self, key: bytes, answer: Answer) -> Outcome:
        headers: Mapping[str, str] = answer.headers
        return Outcome(self._spool.write(key, io.BytesIO(answer.body), answer.content_type), headers)

    async def _commit(self, commit: Callable[[], bool]) -> bool:
        """Commit once the database answers. Returns False if the claim is no more valid, or the service ends first."""
        while True:
            try:
                return await run_sync(commit)
            except StoreUnavailable:
                if self._ending.is_set():
                    return False
                log.warning("an end of a job waits: the jobs database does not answer")
                await self._pause(POLL_SECONDS)

    async def _pause(self, seconds: float) -> None:
        """Wait, or until the service ends."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ending.wait()

    async def _delete_inputs(self, job: Job) -> None:
        for blob in job.inputs:
            await run_sync(self._spool.delete, blob.sha256)


def _progress(observation: Observation) -> Progress:
    return Progress(observation.stage, observation.slices_done, observation.slices_expected)
