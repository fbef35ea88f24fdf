"""Housekeeping: announce ends, erase what is kept long enough, delete what nothing refers to, and export figures."""

import asyncio
import time

import structlog
from anyio.to_thread import run_sync
from kdmri_service.errors import StoreUnavailable
from kdmri_service.jobs.records import State
from kdmri_service.jobs.spool import Spool
from kdmri_service.jobs.store import Store
from kdmri_service.observability import metrics

log = structlog.get_logger()

PERIOD_SECONDS = 5.0
SWEEP_SECONDS = 60.0
"""Time between two searches for files that nothing refers to."""
GRACE_SECONDS = 3600.0
"""Age below which such a file is left: its job may be about to be stored."""


class Housekeeping:
    """The regular work beside the jobs themselves. Several processes may do it for one store."""

    def __init__(self, store: Store, spool: Spool, *, kept_seconds: float) -> None:
        """Prepare; `run` begins.

        Args:
            store: The jobs.
            spool: Their files.
            kept_seconds: Time after its end at which a job's data are erased.
        """
        self._store, self._spool, self._kept = store, spool, kept_seconds
        self._swept = -SWEEP_SECONDS

    async def run(self) -> None:
        """Repeat until cancelled; a database that is away is tried again."""
        while True:
            try:
                await run_sync(self.once)
            except (StoreUnavailable, OSError) as error:
                log.warning("housekeeping waits", error=type(error).__name__)
            await asyncio.sleep(PERIOD_SECONDS)

    def once(self) -> None:
        """Do all that is due."""
        self.announce_ends()
        for job_id in self._store.expired_jobs(self._kept):
            erase(self._store, self._spool, job_id, reason="retention")
        if time.monotonic() >= self._swept + SWEEP_SECONDS:
            self._swept = time.monotonic()
            self.sweep(GRACE_SECONDS)
        self.export()

    def announce_ends(self) -> None:
        """Log and count the ends of jobs, each by one process."""
        for event in self._store.events():
            # Only one process gets True, so that an end is counted once however many look.
            if self._store.mark_delivered(event):
                log.info("job ended", job=event.job, outcome=event.event, seconds=round(event.seconds, 3))
                metrics.JOBS_ENDED.labels(event.event).inc()
                metrics.JOB_DURATION.observe(event.seconds)

    def sweep(self, grace_seconds: float) -> None:
        """Delete files that no job refers to, and the old contents of the database's log."""
        # Listed first: a file that is written afterwards is not in the list, however soon a job refers to it.
        names = self._spool.names(older_than_seconds=grace_seconds)
        referenced = self._store.referenced_files()
        for name in names:
            if name not in referenced:
                self._spool.delete(name)
        self._store.database.forget()

    def export(self) -> None:
        """Export the backlog in the metrics."""
        # Every state, those without jobs too: a gauge that is not set keeps its last value.
        backlog = self._store.backlog()
        for state in State:
            metrics.JOBS.labels(state).set(backlog.counts.get(state, 0))
        metrics.BACKLOG.set(backlog.seconds)
        metrics.OLDEST_JOB.set(backlog.oldest_seconds)


def erase(store: Store, spool: Spool, job_id: str, *, reason: str) -> None:
    """Erase the data of a job that has ended, and log that.

    Args:
        store: The jobs.
        spool: Their files.
        job_id: The job.
        reason: Why, for the log.
    """
    job = store.get(job_id)
    # The key goes first: if the service ends before the files are deleted, they can't be read.
    if store.erase(job_id):
        for blob in (*job.inputs, *([job.result.blob] if job.result else [])):
            spool.delete(blob.sha256)
        store.database.forget()
        log.info("job erased", job=job_id, reason=reason)
