"""Any history of submissions, workers, crashes and clock jumps: no job is lost, and each ends once."""

from collections.abc import Callable
from contextlib import suppress
from itertools import count

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from kdmri_service.jobs.database import Database
from kdmri_service.jobs.leases import ATTEMPTS_AT_MOST, Claim, Leases, Progress
from kdmri_service.jobs.records import Failure, State
from kdmri_service.jobs.schema import ATTEMPTS, JOBS, OUTBOX
from kdmri_service.jobs.store import Store
from sqlalchemy import Connection, event, select

from tests.service.jobs.submissions import outcome, submission

LEASE = 60.0
FINAL = {State.done, State.failed, State.cancelled}


class Crash(Exception):
    """The process ends before its transaction is committed."""


class Histories(RuleBasedStateMachine):
    """One database, its clients and its workers. A claim that no rule uses again is that of a worker that died."""

    create: Callable[[], str]

    def __init__(self) -> None:
        super().__init__()
        self.now = 1e6
        self.database = Database(type(self).create(), clock=lambda _: self.now)
        self.store, self.leases = Store(self.database), Leases(self.database, LEASE)
        self.accepted: set[str] = set()
        self.claims: list[Claim] = []
        self.committed: dict[str, str] = {}
        self.ended: dict[str, State] = {}
        self.numbers = count()
        self.armed = False
        event.listen(self.database.engine, "commit", self.crash)

    def teardown(self) -> None:
        self.database.close()

    def crash(self, _: Connection) -> None:
        if self.armed:
            raise Crash

    def tried(self, action: Callable[[], object], crashes: bool) -> object:
        """Return what an action returns, or None where its process ends just before the commit."""
        self.armed = crashes
        try:
            with suppress(Crash):
                return action()
        finally:
            self.armed = False
        return None

    @rule(content=st.sampled_from(["one", "two", ""]), crashes=st.booleans())
    def submit(self, content: str, crashes: bool) -> None:
        new = submission(content)
        if self.tried(lambda: self.store.submit(new), crashes):
            self.accepted.add(new.id)
        known = {job for job in self.accepted if self.exists(job)}
        # An id that is not in the table was merged with a job of the same content.
        self.accepted = known

    def exists(self, job: str) -> bool:
        with self.database.reading() as connection:
            return connection.execute(select(JOBS.c.id).where(JOBS.c.id == job)).first() is not None

    @rule(number=st.integers(1, 3), crashes=st.booleans())
    def claim(self, number: int, crashes: bool) -> None:
        self.claims += self.tried(lambda: self.leases.claim("worker", number), crashes) or []

    @rule(data=st.data(), crashes=st.booleans())
    def beat(self, data: st.DataObject, crashes: bool) -> None:
        if self.claims:
            claim = data.draw(st.sampled_from(self.claims))
            self.tried(lambda: self.leases.beat(claim, Progress("denoise", 1, 2)), crashes)

    @rule(data=st.data(), crashes=st.booleans())
    def finish(self, data: st.DataObject, crashes: bool) -> None:
        if self.claims:
            claim, name = data.draw(st.sampled_from(self.claims)), f"result {next(self.numbers)}"
            if self.tried(lambda: self.leases.finish(claim, outcome(name), 1), crashes):
                # A second result of one job would be a duplicate.
                assert claim.job.id not in self.committed
                self.committed[claim.job.id] = name

    @rule(data=st.data(), how=st.sampled_from(["give_up", "release", "fail", "cancel"]), crashes=st.booleans())
    def end(self, data: st.DataObject, how: str, crashes: bool) -> None:
        if self.claims:
            claim = data.draw(st.sampled_from(self.claims))
            failure = [Failure("Exception", "", "parse")] if how in ("give_up", "fail") else []
            self.tried(lambda: getattr(self.leases, how)(claim, *failure), crashes)

    @rule(data=st.data(), how=st.sampled_from(["cancel", "erase"]), crashes=st.booleans())
    def use(self, data: st.DataObject, how: str, crashes: bool) -> None:
        if self.accepted:
            job = data.draw(st.sampled_from(sorted(self.accepted)))
            self.tried(lambda: getattr(self.store, how)(job), crashes)

    @rule(seconds=st.sampled_from([1.0, LEASE + 1, -30.0, 10 * LEASE]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def restart(self) -> None:
        """All workers die."""
        self.claims = []

    @invariant()
    def nothing_is_lost_or_doubled(self) -> None:
        with self.database.reading() as connection:
            jobs = {row.id: row for row in connection.execute(select(JOBS))}
            outbox = connection.execute(select(OUTBOX.c.job, OUTBOX.c.event)).all()
            running = connection.execute(select(ATTEMPTS.c.job).where(ATTEMPTS.c.outcome == "running")).scalars().all()
        assert self.accepted == set(jobs)
        ends = {job: row.state for job, row in jobs.items() if row.state in FINAL}
        assert sorted(outbox) == sorted(ends.items())
        # A job that ended never changes its end.
        assert self.ended.items() <= ends.items()
        self.ended = ends
        assert set(self.committed) == {job for job, state in ends.items() if state == State.done}
        for job, name in self.committed.items():
            assert jobs[job].erased or jobs[job].result["blob"]["sha256"] == name
        assert sorted(running) == sorted(job for job, row in jobs.items() if row.state == State.running)
        for row in jobs.values():
            assert row.failures <= ATTEMPTS_AT_MOST
            assert (row.key is None) == (row.state in (State.failed, State.cancelled) or row.erased is not None)


def test_no_history_loses_or_doubles_a_job(new_database: Callable[[], str], request: pytest.FixtureRequest) -> None:
    Histories.create = staticmethod(new_database)
    sqlite = "sqlite" in request.node.callspec.id
    # A database takes PostgreSQL some tenths of a second to create.
    run_state_machine_as_test(Histories, settings=settings(max_examples=25 if sqlite else 8, stateful_step_count=30))
