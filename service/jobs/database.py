"""The jobs database: connections to SQLite or PostgreSQL, transactions, and migrations as the service starts."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from alembic import command
from alembic.config import Config
from kdmri_service.errors import StoreUnavailable
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from kdmri.errors import InvalidRequest

MIGRATIONS = Path(__file__).with_name("migrations")
MIGRATION_LOCK = 0x6B646D72
"""Number of PostgreSQL's advisory lock that one service holds while it migrates: the letters kdmr."""
BUSY_SECONDS = 30
"""Longest wait for SQLite's one writer: a transaction here lasts milliseconds, a checkpoint on a slow disk seconds."""
READ = {"reads_only": True}

Clock = Callable[[Connection], float]


class _Sqlite(Protocol):
    """The part of a sqlite3 connection that is set up here."""

    isolation_level: str | None

    def execute(self, statement: str) -> object: ...


def database_time(connection: Connection) -> float:
    """Return the time that all workers of a database agree on: PostgreSQL's clock, or this machine's for SQLite."""
    if connection.dialect.name == "postgresql":
        # clock_timestamp() moves on within a transaction; now() would stay at its beginning.
        return float(connection.execute(text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one())
    return time.time()


class Database:
    """A database with the tables of `schema`, and the clock that leases are measured by."""

    def __init__(self, url: str, clock: Clock = database_time) -> None:
        """Connect, and bring the tables up to date.

        Args:
            url: SQLAlchemy's URL, such as sqlite:////var/lib/kdmri/jobs.sqlite or postgresql://user@host/kdmri.
            clock: Tells the time in a transaction.

        Raises:
            InvalidRequest: The URL is not one of SQLite or PostgreSQL, or its driver is not installed.
            StoreUnavailable: The database can't be reached.
        """
        self.engine = _engine_of(url)
        self.clock = clock
        with self.transaction() as connection:
            migrate(connection)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Provide a transaction that is committed at the end, and rolled back on an error.

        Raises:
            StoreUnavailable: The database can't be reached; whether the transaction was committed is unknown.
        """
        with _available(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Provide a connection for queries. Raises StoreUnavailable if the database can't be reached."""
        with _available(), self.engine.connect().execution_options(**READ) as connection:
            yield connection

    def forget(self) -> None:
        """Remove old contents from SQLite's log, erased keys among them. PostgreSQL recycles its own."""
        if self.engine.dialect.name == "sqlite":
            # Outside of a transaction, which would keep the log from being cut off.
            connection = self.engine.raw_connection()
            try:
                connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
            finally:
                connection.close()

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def migrate(connection: Connection) -> None:
    """Run the revisions that the database has not seen yet, one service at a time."""
    if connection.dialect.name == "postgresql":
        # SQLite's transactions exclude each other by themselves.
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": MIGRATION_LOCK})
    config = Config()
    # Alembic expands % in its options, and a folder may have one in its name.
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _engine_of(url: str) -> Engine:
    try:
        parsed = make_url(url)
        kind = parsed.get_backend_name()
        if kind == "sqlite":
            return _sqlite(parsed)
        if kind == "postgresql":
            # A connection may have died since it was used last: it is tried before it is used.
            return create_engine(parsed.set(drivername="postgresql+psycopg"), pool_pre_ping=True)
    except (SQLAlchemyError, ImportError) as error:
        # Neither the address nor the error's text is repeated: both may hold a password.
        raise InvalidRequest(
            f"KDMRI_DATABASE: expected the URL of a database with an installed driver, got {type(error).__name__}"
        ) from None
    raise InvalidRequest(f"KDMRI_DATABASE: expected a URL of sqlite or postgresql, got one of {kind}")


def _sqlite(url: URL) -> Engine:
    if url.database:
        # The file holds the keys of jobs, so that nobody else may read it; SQLite would create it for everybody.
        Path(url.database).touch(mode=0o600)
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS})

    @event.listens_for(engine, "connect")
    def set_up(connection: _Sqlite, _: object) -> None:
        # Python's sqlite3 begins transactions late, at the first change, when another writer may have come between.
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode=WAL")
        # A job that was accepted must survive a power cut: the log is synced at every commit.
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        # An erased key must not stay behind in free pages.
        connection.execute("PRAGMA secure_delete=ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        reads_only = connection.get_execution_options().get("reads_only")
        connection.exec_driver_sql("BEGIN" if reads_only else "BEGIN IMMEDIATE")

    return engine


@contextmanager
def _available() -> Iterator[None]:
    try:
        yield
    except IntegrityError:
        # A broken constraint says something about the data, and callers expect it.
        raise
    except SQLAlchemyError as error:
        raise StoreUnavailable("expected the jobs database to answer, it did not: try again later") from error
