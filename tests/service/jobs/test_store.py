"""The store on SQLite and PostgreSQL: fencing, attempts, identity, order, erasure, and tables as declared."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from kdmri_service.errors import DifferentJob, StoreUnavailable, UnknownJob
from kdmri_service.jobs.database import Database
from kdmri_service.jobs.leases import ATTEMPTS_AT_MOST, Claim, Hold, Leases, Progress
from kdmri_service.jobs.records import Failure, State
from kdmri_service.jobs.schema import ATTEMPTS, METADATA
from kdmri_service.jobs.store import BY_KEY, Store
from sqlalchemy import select

from kdmri.errors import InvalidRequest
from tests.service.jobs.submissions import outcome, submission

LEASE = 60.0


@dataclass
class Queue:
    """A store, its workers' side, and a clock that only the test moves."""

    url: str
    now: float = 1000.0
    database: Database = field(init=False)

    def __post_init__(self) -> None:
        self.database = Database(self.url, clock=lambda _: self.now)
        self.store, self.leases = Store(self.database), Leases(self.database, LEASE)

    def one(self, worker: str = "a") -> Claim:
        (claim,) = self.leases.claim(worker, 1)
        return claim


@pytest.fixture
def queue(new_database: Callable[[], str]) -> Iterator[Queue]:
    queue = Queue(new_database())
    yield queue
    queue.database.close()


def test_migrations_make_the_declared_tables(queue: Queue) -> None:
    with queue.database.transaction() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []


def test_a_database_that_is_there_is_opened_again_with_its_jobs(queue: Queue) -> None:
    job = queue.store.submit(submission())
    assert Queue(queue.url).store.get(job.id) == job


def test_a_worker_that_lost_its_lease_commits_nothing(queue: Queue) -> None:
    job = queue.store.submit(submission())
    zombie = queue.one("a")
    queue.now += LEASE + 1
    heir = queue.one("b")
    assert (zombie.job.id, heir.job.id) == (job.id, job.id)
    assert queue.leases.beat(zombie, Progress()) == Hold.lost
    assert not queue.leases.finish(zombie, outcome("zombie"), 1)
    assert queue.store.get(job.id).state == State.running
    assert queue.leases.finish(heir, outcome("heir"), 1)
    assert not queue.leases.finish(zombie, outcome("zombie"), 1)
    assert not queue.leases.finish(heir, outcome("again"), 1)
    # A commit whose answer was lost is tried again, and is then known to have taken place.
    assert queue.leases.finish(heir, outcome("heir"), 1)
    ended = queue.store.get(job.id)
    assert ended.state == State.done
    assert ended.result == outcome("heir")
    assert [event.event for event in queue.store.events()] == ["done"]


def test_a_heartbeat_keeps_the_lease_and_tells_the_progress(queue: Queue) -> None:
    job = queue.store.submit(submission())
    claim = queue.one()
    for done in range(3):
        queue.now += LEASE - 1
        assert queue.leases.beat(claim, Progress("denoise", done, 7)) == Hold.held
    seen = queue.store.get(job.id)
    assert (seen.stage, seen.slices_done, seen.slices) == ("denoise", 2, 7)
    assert queue.leases.claim("b", 1) == []


def test_an_input_that_kills_its_workers_fails_with_the_stage_that_did(queue: Queue) -> None:
    job = queue.store.submit(submission())
    for _ in range(ATTEMPTS_AT_MOST):
        claim = queue.one()
        queue.leases.beat(claim, Progress("sensitivities", 0, 2))
        queue.now += LEASE + 1
    assert queue.leases.claim("a", 1) == []
    ended = queue.store.get(job.id)
    assert ended.state == State.failed
    assert ended.error is not None
    assert (ended.error.stage, ended.error.error) == ("sensitivities", "WorkerLost")
    assert ended.key is None
    with queue.database.reading() as connection:
        rows = connection.execute(select(ATTEMPTS.c.outcome, ATTEMPTS.c.stage).order_by(ATTEMPTS.c.number)).all()
    assert rows == [("lost", "sensitivities")] * ATTEMPTS_AT_MOST


def test_an_error_of_the_worker_counts_and_one_of_the_input_ends(queue: Queue) -> None:
    job = queue.store.submit(submission())
    unforeseen, unreadable = Failure("Exception", "", "parse"), Failure("UnreadableInput", "expected HDF5", "parse")
    assert queue.leases.give_up(queue.one(), unforeseen)
    assert queue.store.get(job.id).state == State.queued
    assert queue.leases.fail(queue.one(), unreadable)
    ended = queue.store.get(job.id)
    assert (ended.state, ended.error) == (State.failed, unreadable)


def test_a_released_job_has_all_its_attempts_left(queue: Queue) -> None:
    job = queue.store.submit(submission())
    for _ in range(2 * ATTEMPTS_AT_MOST):
        assert queue.leases.release(queue.one())
    seen = queue.store.get(job.id)
    assert (seen.state, seen.failures, seen.attempt) == (State.queued, 0, 2 * ATTEMPTS_AT_MOST)


def test_a_claim_takes_jobs_of_one_batch_key_in_order_and_a_lost_one_alone(queue: Queue) -> None:
    jobs = []
    for batch_key in ("x", "y", "x", "x"):
        queue.now += 1
        jobs.append(queue.store.submit(submission(batch_key=batch_key)).id)
    assert [queue.store.position(queue.store.get(job)) for job in jobs] == [0, 1, 2, 3]
    assert [claim.job.id for claim in queue.leases.claim("a", 2)] == [jobs[0], jobs[2]]
    queue.now += LEASE + 1
    assert [claim.job.id for claim in queue.leases.claim("b", 3)] == [jobs[0]]
    assert [claim.job.id for claim in queue.leases.claim("b", 3)] == [jobs[1]]


def test_one_content_is_one_job_until_it_fails_or_is_erased(queue: Queue) -> None:
    first = queue.store.submit(submission("content"))
    assert queue.store.submit(submission("content")).id == first.id
    assert queue.store.submit(submission("content", owner="other")).id != first.id
    queue.store.cancel(first.id)
    second = queue.store.submit(submission("content"))
    assert second.id != first.id
    claims = queue.leases.claim("a", 2)
    assert all(queue.leases.finish(claim, outcome(claim.job.id), 1) for claim in claims)
    assert queue.store.submit(submission("content")).id == second.id
    assert queue.store.erase(second.id)
    assert queue.store.submit(submission("content")).id not in (first.id, second.id)


def test_an_idempotency_key_stands_for_one_content(queue: Queue) -> None:
    first = queue.store.submit(submission(BY_KEY + "k", fingerprint="content"))
    queue.store.cancel(first.id)
    assert queue.store.submit(submission(BY_KEY + "k", fingerprint="content")).id == first.id
    with pytest.raises(DifferentJob, match="another input"):
        queue.store.submit(submission(BY_KEY + "k", fingerprint="other"))


def test_submissions_at_once_are_one_job(queue: Queue) -> None:
    with ThreadPoolExecutor(8) as clients:
        ids = set(clients.map(lambda _: queue.store.submit(submission("content")).id, range(24)))
    assert len(ids) == 1


def test_workers_at_once_take_each_job_once(queue: Queue) -> None:
    jobs = {queue.store.submit(submission()).id for _ in range(40)}

    def drain(worker: str) -> list[str]:
        taken = []
        while claims := queue.leases.claim(worker, 3):
            taken += [claim.job.id for claim in claims if queue.leases.finish(claim, outcome(worker), 1)]
        return taken

    with ThreadPoolExecutor(4) as workers:
        taken = [job for share in workers.map(drain, "abcd") for job in share]
    # A worker stops where the others have locked all that waits, so that the last of them has to look again.
    taken += drain("e")
    assert len(taken) == len(jobs)
    assert set(taken) == jobs


def test_cancelling_ends_what_waits_and_asks_what_runs(queue: Queue) -> None:
    waiting, running = queue.store.submit(submission()), None
    claim = queue.one()
    running, waiting = waiting, queue.store.submit(submission())
    assert queue.store.cancel(waiting.id).state == State.cancelled
    assert queue.store.cancel(running.id).state == State.running
    assert queue.leases.beat(claim, Progress()) == Hold.cancelled
    assert not queue.leases.finish(claim, outcome("late"), 1)
    assert queue.leases.cancel(claim)
    assert queue.store.cancel(running.id).state == State.cancelled
    assert sorted(event.event for event in queue.store.events()) == ["cancelled", "cancelled"]


def test_a_cancelled_job_of_a_dead_worker_ends(queue: Queue) -> None:
    job = queue.store.submit(submission())
    queue.one()
    queue.store.cancel(job.id)
    queue.now += LEASE + 1
    assert queue.leases.claim("b", 1) == []
    assert queue.store.get(job.id).state == State.cancelled


def test_erasure_takes_what_ended_and_keeps_its_dates(queue: Queue) -> None:
    job = queue.store.submit(submission())
    assert not queue.store.erase(job.id)
    assert queue.leases.finish(queue.one(), outcome("result"), 1)
    assert queue.store.referenced_files() == {"result"}
    queue.now += 100
    assert queue.store.expired_jobs(101) == []
    assert queue.store.expired_jobs(100) == [job.id]
    assert queue.store.erase(job.id)
    assert not queue.store.erase(job.id)
    erased = queue.store.get(job.id)
    assert (erased.key, erased.fingerprint, erased.result, erased.inputs) == (None, None, None, [])
    assert (erased.state, erased.erased) == (State.done, queue.now)
    assert queue.store.expired_jobs(0) == []
    assert queue.store.referenced_files() == set()


def test_each_end_is_announced_once(queue: Queue) -> None:
    queue.store.submit(submission())
    queue.now += 5
    queue.leases.finish(queue.one(), outcome("result"), 1)
    (event,) = queue.store.events()
    assert event.seconds == 5
    assert queue.store.mark_delivered(event)
    assert not queue.store.mark_delivered(event)
    assert queue.store.events() == []


def test_the_backlog_is_the_time_that_what_waits_will_take(queue: Queue) -> None:
    assert queue.store.backlog().seconds == 0
    queue.store.submit(submission())
    claim = queue.one()
    queue.now += 8
    queue.leases.finish(claim, outcome("result"), 1)
    for batch_key in ("same", "new"):
        queue.store.submit(submission(batch_key=batch_key))
    queue.now += 3
    backlog = queue.store.backlog()
    assert backlog.counts == {State.done: 1, State.queued: 2}
    assert backlog.oldest_seconds == 3
    assert backlog.seconds == pytest.approx(16)


def test_no_job_of_this_id(queue: Queue) -> None:
    with pytest.raises(UnknownJob):
        queue.store.get("0" * 32)


@pytest.mark.parametrize("url", ["mysql://secret:secret@host/jobs", "no url", "oracle+secret://host"])
def test_another_database_is_refused_without_repeating_its_password(url: str) -> None:
    with pytest.raises(InvalidRequest, match="KDMRI_DATABASE") as refusal:
        Database(url)
    assert "secret" not in str(refusal.value)


def test_a_database_that_is_away_is_an_error_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable):
        Database(f"postgresql://kdmri@/jobs?host={tmp_path}")


def test_the_file_of_the_database_is_its_users_own(tmp_path: Path) -> None:
    Queue(f"sqlite:///{tmp_path}/jobs.sqlite").store.submit(submission())
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}
