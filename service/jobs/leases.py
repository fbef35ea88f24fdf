"""Leases: how workers take jobs from the store and give them back, and how a dead worker's jobs return.

A claim is valid while the job's attempt number is the claim's: the number rises with every claim, so whatever a worker
commits that was thought dead is refused, in the transaction that would have committed it (a fencing token).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import Enum

from kdmri_service.jobs.database import Database
from kdmri_service.jobs.records import Failure, Job, Outcome, State
from kdmri_service.jobs.schema import ATTEMPTS, JOBS
from kdmri_service.jobs.store import announce, end_of, job_of
from sqlalchemy import ColumnElement, Connection, insert, select, update

ATTEMPTS_AT_MOST = 3
"""Attempts that may fail or lose their worker before the job fails: an input that kills workers must not kill all."""


@dataclass(frozen=True)
class Claim:
    """A worker's right to one attempt at a job."""

    job: Job
    attempt: int


class Hold(Enum):
    """A worker's standing, as its heartbeat learns it."""

    held = "held"
    """The job is still this worker's."""
    cancelled = "cancelled"
    """The client wants the job no more."""
    lost = "lost"
    """The job is another worker's, or has ended."""


@dataclass(frozen=True)
class Progress:
    """How far an attempt has come."""

    stage: str | None = None
    slices_done: int = 0
    slices: int | None = None


class Leases:
    """The workers' side of a database of jobs."""

    def __init__(self, database: Database, seconds: float) -> None:
        """Prepare claims.

        Args:
            database: The jobs.
            seconds: Time after its last heartbeat at which a worker counts as dead.
        """
        self.database = database
        self.seconds = seconds

    def claim(self, worker: str, count: int) -> list[Claim]:
        """Take the job that has waited longest, and others of its batch key.

        A job whose attempt was lost before is taken alone: if it kills its worker again, no other job suffers.

        Args:
            worker: Names the worker in the table of attempts.
            count: Largest number of jobs to take.

        Returns:
            The claims, of jobs that are now running; none if no job waits.
        """
        with self.database.transaction() as connection:
            now = self.database.clock(connection)
            # Whoever looks for work also looks for lost work, so that no process has to watch over the others.
            self._return_lost(connection, now)
            # PostgreSQL's workers pass over rows that another one is taking; SQLite's exclude each other.
            waiting = select(JOBS).where(JOBS.c.state == State.queued).order_by(JOBS.c.created, JOBS.c.id)
            first = connection.execute(waiting.limit(1).with_for_update(skip_locked=True)).one_or_none()
            if first is None:
                return []
            rows = [first]
            if count > 1 and not first.failures:
                alike = waiting.where(
                    JOBS.c.batch_key == first.batch_key, JOBS.c.failures == 0, JOBS.c.id != first.id
                ).limit(count - 1)
                rows += connection.execute(alike.with_for_update(skip_locked=True)).all()
            jobs = [job_of(row) for row in rows]
            return [self._take(connection, job, worker, now) for job in jobs]

    def beat(self, claim: Claim, progress: Progress) -> Hold:
        """Extend the lease, record the progress, and return whether the job is still this worker's."""
        with self.database.transaction() as connection:
            now = self.database.clock(connection)
            values = {"lease_until": now + self.seconds, **asdict(progress)}
            # No row means that the attempt number or the state is another one: the claim has ended.
            if not connection.execute(update(JOBS).where(*_held(claim)).values(values)).rowcount:
                return Hold.lost
            wanted = select(JOBS.c.cancel_requested).where(JOBS.c.id == claim.job.id)
            return Hold.cancelled if connection.execute(wanted).scalar_one() else Hold.held

    def finish(self, claim: Claim, outcome: Outcome, slices: int) -> bool:
        """Commit a result together with its announcement.

        Args:
            claim: The attempt.
            outcome: The sealed answer, which is durable.
            slices: Number of slices that it holds.

        Returns:
            False if the job is another worker's by now, has ended otherwise or was cancelled: nothing is committed.
        """
        # The result and its announcement are one transaction: neither can exist without the other after a crash.
        result = {"blob": asdict(outcome.blob), "headers": dict(outcome.headers)}
        with self.database.transaction() as connection:
            now = self.database.clock(connection)
            wanted = (*_held(claim), JOBS.c.cancel_requested.is_(False))
            values = {**end_of(State.done, now), "result": result, "slices_done": slices, "slices": slices}
            if connection.execute(update(JOBS).where(*wanted).values(values)).rowcount:
                announce(connection, claim.job.id, State.done, now)
                _end_attempt(connection, claim.job.id, claim.attempt, "done", now)
                return True
            # A connection that broke at the commit leaves open whether it took place: then this is the second try.
            mine = (JOBS.c.id == claim.job.id, JOBS.c.attempt == claim.attempt, JOBS.c.state == State.done)
            stored = connection.execute(select(JOBS.c.result).where(*mine)).scalar_one_or_none()
            return stored is not None and stored["blob"]["sha256"] == outcome.blob.sha256

    def fail(self, claim: Claim, failure: Failure) -> bool:
        """End a job whose input or parameters are at fault: another attempt would fail, too."""
        return self._end(claim, State.failed, failure)

    def cancel(self, claim: Claim) -> bool:
        """End a job that its client cancelled."""
        return self._end(claim, State.cancelled, None)

    def give_up(self, claim: Claim, failure: Failure) -> bool:
        """Count a failed attempt; the job waits for another one, or fails after the last.

        Args:
            claim: The attempt.
            failure: Why it failed; kept if it was the last.

        Returns:
            False if the job is another worker's by now or has ended.
        """
        with self.database.transaction() as connection:
            now = self.database.clock(connection)
            if not connection.execute(select(JOBS.c.id).where(*_held(claim)).with_for_update()).first():
                return False
            _return(connection, claim.job.id, claim.attempt, failure, "failed", now)
            return True

    def release(self, claim: Claim) -> bool:
        """Give a job back that can't be run now; the attempt does not count as failed."""
        with self.database.transaction() as connection:
            now = self.database.clock(connection)
            values = {"state": State.queued, "lease_until": None}
            if not connection.execute(update(JOBS).where(*_held(claim)).values(values)).rowcount:
                return False
            _end_attempt(connection, claim.job.id, claim.attempt, "released", now)
            return True

    def _take(self, connection: Connection, job: Job, worker: str, now: float) -> Claim:
        attempt = job.attempt + 1
        connection.execute(
            update(JOBS)
            .where(JOBS.c.id == job.id)
            .values(
                state=State.running,
                attempt=attempt,
                lease_until=now + self.seconds,
                stage=None,
                slices_done=0,
            )
        )
        connection.execute(
            insert(ATTEMPTS).values(job=job.id, number=attempt, worker=worker, started=now, outcome="running")
        )
        return Claim(job, attempt)

    def _return_lost(self, connection: Connection, now: float) -> None:
        """Return the jobs of workers whose leases have ended."""
        lost = select(JOBS).where(JOBS.c.state == State.running, JOBS.c.lease_until < now)
        for row in connection.execute(lost.with_for_update(skip_locked=True)).all():
            # Its client does not want it any more: another attempt would be for nobody.
            if row.cancel_requested:
                connection.execute(update(JOBS).where(JOBS.c.id == row.id).values(end_of(State.cancelled, now)))
                announce(connection, row.id, State.cancelled, now)
                _end_attempt(connection, row.id, row.attempt, "lost", now)
                continue
            stage = row.stage or "start"
            detail = f"expected a worker that lives, {ATTEMPTS_AT_MOST} attempts lost theirs, the last one in {stage}"
            _return(connection, row.id, row.attempt, Failure("WorkerLost", detail, stage), "lost", now)

    def _end(self, claim: Claim, state: State, failure: Failure | None) -> bool:
        with self.database.transaction() as connection:
            now = self.database.clock(connection)
            values = {**end_of(state, now), "error": failure and asdict(failure)}
            if not connection.execute(update(JOBS).where(*_held(claim)).values(values)).rowcount:
                return False
            announce(connection, claim.job.id, state, now)
            _end_attempt(connection, claim.job.id, claim.attempt, state, now)
            return True


def _held(claim: Claim) -> Sequence[ColumnElement[bool]]:
    """Return the conditions under which a claim is still valid."""
    return JOBS.c.id == claim.job.id, JOBS.c.attempt == claim.attempt, JOBS.c.state == State.running


def _return(connection: Connection, job_id: str, attempt: int, failure: Failure, outcome: str, now: float) -> None:
    """Put a job back into the queue, or fail it if this was its last attempt.

    Args:
        connection: The transaction, which has locked the job.
        job_id: The job.
        attempt: The attempt that ends.
        failure: Kept as the job's if it fails.
        outcome: Kept as the attempt's.
        now: The time.
    """
    _end_attempt(connection, job_id, attempt, outcome, now)
    failures = connection.execute(select(JOBS.c.failures).where(JOBS.c.id == job_id)).scalar_one() + 1
    if failures < ATTEMPTS_AT_MOST:
        values: dict[str, object] = {"state": State.queued, "lease_until": None, "failures": failures}
    else:
        values = {**end_of(State.failed, now), "failures": failures, "error": asdict(failure)}
        announce(connection, job_id, State.failed, now)
    connection.execute(update(JOBS).where(JOBS.c.id == job_id).values(values))


def _end_attempt(connection: Connection, job_id: str, number: int, outcome: str, now: float) -> None:
    """Record how an attempt ended, and in which stage.

    Args:
        connection: The transaction.
        job_id: The job.
        number: The attempt's number.
        outcome: How it ended.
        now: The time.
    """
    stage = select(JOBS.c.stage).where(JOBS.c.id == job_id).scalar_subquery()
    same = (ATTEMPTS.c.job == job_id, ATTEMPTS.c.number == number)
    connection.execute(update(ATTEMPTS).where(*same).values(ended=now, outcome=outcome, stage=stage))
