"""Opening of the desk: store, spool, runner and housekeeping from the settings."""

from collections.abc import Callable, Sequence
from pathlib import Path

from kdmri_service.engine.engine import Engine
from kdmri_service.jobs.database import Database
from kdmri_service.jobs.desk import Desk
from kdmri_service.jobs.housekeeping import Housekeeping
from kdmri_service.jobs.leases import Leases
from kdmri_service.jobs.runner import Negotiate, Runner
from kdmri_service.jobs.spool import Spool
from kdmri_service.jobs.store import Store
from kdmri_service.settings import Settings

from kdmri.operations import Operation


def open_desk(
    settings: Settings,
    folder: Path,
    engine: Engine,
    operations: Sequence[type[Operation]],
    *,
    negotiate: Negotiate,
    status_of: Callable[[BaseException], int],
    may_claim: Callable[[], bool],
) -> Desk:
    """Open the jobs of a spool, and their database.

    Args:
        settings: The service's settings.
        folder: The spool.
        engine: Runs the jobs.
        operations: The operations that jobs may name.
        negotiate: The transport's choice of a media type.
        status_of: The status under which an error is counted.
        may_claim: Returns False once the service is ending.

    Returns:
        The desk, which runs no job yet.

    Raises:
        InvalidRequest: KDMRI_DATABASE is not the URL of a database that can be used.
        StoreUnavailable: The database can't be reached.
    """
    spool = Spool(folder, spare_bytes=settings.spool_spare_mb * 2**20)
    # Absolute: SQLAlchemy would look for a relative path from wherever the process stands when it connects.
    url = settings.database.get_secret_value() if settings.database else f"sqlite:///{folder.resolve()}/jobs.sqlite"
    database = Database(url)
    store, leases = Store(database), Leases(database, settings.lease_seconds)
    runner = Runner(engine, leases, spool, operations, negotiate=negotiate, status_of=status_of, may_claim=may_claim)
    return Desk(store, spool, runner, Housekeeping(store, spool, kept_seconds=settings.jobs_kept_hours * 3600))
