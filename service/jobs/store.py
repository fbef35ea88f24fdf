"""The store: jobs in a database, as clients submit, see, cancel and erase them. `leases` has the workers' side."""

from collections.abc import Sequence
from typing import Any

from kdmri_service.errors import DifferentJob, UnknownJob
from kdmri_service.jobs.database import Database
from kdmri_service.jobs.records import Backlog, Blob, Event, Failure, Job, Outcome, State, Submission
from kdmri_service.jobs.schema import ATTEMPTS, JOBS, OUTBOX
from sqlalchemy import ColumnElement, Connection, Row, and_, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

BY_KEY = "key:"
"""Begins the identity of a job whose client sent an Idempotency-Key; every other is its content's."""
MEASURED_JOBS = 50
"""Number of latest jobs that the time of those that wait is estimated from."""


class Store:
    """The jobs of a database."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def find_same(self, owner: str, identity: str, fingerprint: str) -> Job | None:
        """Return the job that a submission would repeat, None if it is a new one.

        A job by content that failed or was cancelled is not repeated, for its client wants it done after all; nor is
        one whose result was erased.

        Args:
            owner: Who submits.
            identity: The submission's identity.
            fingerprint: The submission's fingerprint.

        Raises:
            DifferentJob: The job of this Idempotency-Key has another fingerprint.
        """
        with self.database.reading() as connection:
            row = connection.execute(select(JOBS).where(*_same(owner, identity))).one_or_none()
        if row is None:
            return None
        job = job_of(row)
        if _is_replaceable(job, identity):
            return None
        if job.fingerprint != fingerprint:
            raise DifferentJob("expected a new Idempotency-Key, got that of a job with another input or parameters")
        return job

    def submit(self, new: Submission) -> Job:
        """Store a job, unless one of its owner and identity is there already.

        Args:
            new: The job; its files are durable.

        Returns:
            The stored job: that of another id if it was there already.

        Raises:
            DifferentJob: The job of this Idempotency-Key has another fingerprint.
        """
        try:
            with self.database.transaction() as connection:
                row = connection.execute(
                    select(JOBS).where(*_same(new.owner, new.identity)).with_for_update()
                ).one_or_none()
                # The old job keeps its row and gives up its identity, which only one job may have at a time.
                if row is not None and _is_replaceable(job_of(row), new.identity):
                    connection.execute(update(JOBS).where(JOBS.c.id == row.id).values(identity=None))
                    row = None
                if row is None:
                    connection.execute(insert(JOBS).values(_new_row(new, self.database.clock(connection))))
        except IntegrityError:
            # PostgreSQL lets two submissions pass the query at once; the constraint stops the second.
            pass
        job = self.find_same(new.owner, new.identity, new.fingerprint)
        return job or self.get(new.id)

    def get(self, job_id: str) -> Job:
        """Return a job. Raises UnknownJob if there is none of this id."""
        with self.database.reading() as connection:
            row = connection.execute(select(JOBS).where(JOBS.c.id == job_id)).one_or_none()
        if row is None:
            raise UnknownJob("expected the id of a job of this key, got another")
        return job_of(row)

    def position(self, job: Job) -> int | None:
        """Return the number of jobs that are ahead of a waiting one; None for any other."""
        if job.state != State.queued:
            return None
        ahead = or_(JOBS.c.created < job.created, and_(JOBS.c.created == job.created, JOBS.c.id < job.id))
        query = select(func.count()).select_from(JOBS).where(JOBS.c.state == State.queued, ahead)
        with self.database.reading() as connection:
            return int(connection.execute(query).scalar_one())

    def cancel(self, job_id: str) -> Job:
        """Cancel a job that waits, and ask the worker of one that runs to stop; one that has ended stays as it is."""
        with self.database.transaction() as connection:
            now = self.database.clock(connection)
            waits = and_(JOBS.c.id == job_id, JOBS.c.state == State.queued)
            if connection.execute(update(JOBS).where(waits).values(end_of(State.cancelled, now))).rowcount:
                announce(connection, job_id, State.cancelled, now)
            runs = and_(JOBS.c.id == job_id, JOBS.c.state == State.running)
            connection.execute(update(JOBS).where(runs).values(cancel_requested=True))
        return self.get(job_id)

    def erase(self, job_id: str) -> bool:
        """Erase the data of a job that has ended: its key, its fingerprint and its identity. Its dates remain."""
        with self.database.transaction() as connection:
            # A job that runs can't be erased: its worker would write a result without a key to seal it by.
            final = JOBS.c.state.in_([State.done, State.failed, State.cancelled])
            return bool(
                connection.execute(
                    update(JOBS)
                    .where(JOBS.c.id == job_id, final, JOBS.c.erased.is_(None))
                    .values(
                        key=None,
                        fingerprint=None,
                        identity=None,
                        inputs=[],
                        result=None,
                        erased=self.database.clock(connection),
                    )
                ).rowcount
            )

    def expired_jobs(self, seconds: float) -> list[str]:
        """Return the ids of jobs that ended so many seconds ago and are not erased."""
        with self.database.reading() as connection:
            before = self.database.clock(connection) - seconds
            query = select(JOBS.c.id).where(JOBS.c.ended <= before, JOBS.c.erased.is_(None))
            return list(connection.execute(query).scalars())

    def referenced_files(self) -> set[str]:
        """Return the names of all files of the spool that a job refers to."""
        with self.database.reading() as connection:
            rows = connection.execute(select(JOBS.c.inputs, JOBS.c.result).where(JOBS.c.key.is_not(None)))
            return {
                blob["sha256"] for row in rows for blob in (*row.inputs, *([row.result["blob"]] if row.result else []))
            }

    def events(self) -> list[Event]:
        """Return the ends of jobs that were not announced yet, the oldest first."""
        query = (
            select(OUTBOX.c.job, OUTBOX.c.event, OUTBOX.c.created, JOBS.c.created.label("submitted"))
            .join(JOBS)
            .where(OUTBOX.c.delivered.is_(None))
            .order_by(OUTBOX.c.created)
        )
        with self.database.reading() as connection:
            return [Event(row.job, row.event, row.created - row.submitted) for row in connection.execute(query)]

    def mark_delivered(self, event: Event) -> bool:
        """Record that an event was announced. Returns False if another worker has done so first."""
        with self.database.transaction() as connection:
            same = (OUTBOX.c.job == event.job, OUTBOX.c.event == event.event, OUTBOX.c.delivered.is_(None))
            values = {"delivered": self.database.clock(connection)}
            return bool(connection.execute(update(OUTBOX).where(*same).values(values)).rowcount)

    def backlog(self) -> Backlog:
        """Return the number of jobs in each state, the age of the oldest that waits, and the time that they need."""
        with self.database.reading() as connection:
            counts = connection.execute(select(JOBS.c.state, func.count()).group_by(JOBS.c.state)).all()
            waiting = connection.execute(
                select(JOBS.c.batch_key, func.sum(JOBS.c.input_bytes), func.min(JOBS.c.created))
                .where(JOBS.c.state == State.queued)
                .group_by(JOBS.c.batch_key)
            ).all()
            pace = {key: _seconds_per_byte(connection, key) for key, _, _ in waiting}
            now = self.database.clock(connection)
        # Pace and size give the time of one worker; an autoscaler divides it by the time that jobs may wait.
        oldest = max((now - created for _, _, created in waiting), default=0.0)
        seconds = sum(float(size) * pace[key] for key, size, _ in waiting)
        return Backlog({State(state): count for state, count in counts}, max(0.0, oldest), seconds)


def job_of(row: Row[Any]) -> Job:
    """Return the job of a row of the table."""
    return Job(
        id=row.id,
        owner=row.owner,
        state=State(row.state),
        operation=row.operation,
        parameters=row.parameters,
        accept=row.accept,
        preferred=row.preferred,
        inputs=[Blob(**blob) for blob in row.inputs],
        fingerprint=row.fingerprint,
        key=row.key,
        attempt=row.attempt,
        failures=row.failures,
        cancel_requested=row.cancel_requested,
        stage=row.stage,
        slices_done=row.slices_done,
        slices=row.slices,
        result=row.result and Outcome(Blob(**row.result["blob"]), row.result["headers"]),
        error=row.error and Failure(**row.error),
        created=row.created,
        ended=row.ended,
        erased=row.erased,
    )


def end_of(state: State, now: float) -> dict[str, object]:
    """Return the values of a job that ends. Only one that is done keeps its key: nothing reads the others' files."""
    values: dict[str, object] = {"state": state, "ended": now, "lease_until": None, "inputs": []}
    return values if state == State.done else {**values, "key": None, "result": None}


def announce(connection: Connection, job_id: str, state: State, now: float) -> None:
    """Put the end of a job into the outbox, in the transaction that ends it.

    Args:
        connection: The transaction.
        job_id: The job.
        state: The state that it ended in.
        now: The time.
    """
    connection.execute(insert(OUTBOX).values(job=job_id, event=state, created=now))


def _same(owner: str, identity: str) -> Sequence[ColumnElement[bool]]:
    return JOBS.c.owner == owner, JOBS.c.identity == identity


def _is_replaceable(job: Job, identity: str) -> bool:
    # An Idempotency-Key promises one job for ever, whatever came of it (IETF draft httpapi-idempotency-key-header).
    return not identity.startswith(BY_KEY) and job.state in (State.failed, State.cancelled)


def _seconds_per_byte(connection: Connection, batch_key: str) -> float:
    """Return the time that the latest jobs of a key took per byte of input; those of all keys if it has none yet."""
    # Time goes with the size of the input, at a pace that differs between models and tasks: that is the batch key.
    for condition in (JOBS.c.batch_key == batch_key, JOBS.c.id.is_not(None)):
        latest = (
            select(JOBS.c.input_bytes, (ATTEMPTS.c.ended - ATTEMPTS.c.started).label("seconds"))
            .join(ATTEMPTS, and_(ATTEMPTS.c.job == JOBS.c.id, ATTEMPTS.c.number == JOBS.c.attempt))
            .where(JOBS.c.state == State.done, condition)
            .order_by(JOBS.c.ended.desc())
            .limit(MEASURED_JOBS)
            .subquery()
        )
        size, seconds = connection.execute(select(func.sum(latest.c.input_bytes), func.sum(latest.c.seconds))).one()
        if size:
            return float(seconds) / float(size)
    return 0.0


def _new_row(new: Submission, now: float) -> dict[str, object]:
    return {
        "id": new.id,
        "owner": new.owner,
        "state": State.queued,
        "operation": new.operation,
        "parameters": dict(new.parameters),
        "accept": new.accept,
        "preferred": new.preferred,
        "inputs": [vars(blob) for blob in new.inputs],
        "input_bytes": new.input_bytes,
        "batch_key": new.batch_key,
        "identity": new.identity,
        "fingerprint": new.fingerprint,
        "key": new.key,
        "attempt": 0,
        "failures": 0,
        "cancel_requested": False,
        "slices_done": 0,
        "created": now,
    }
