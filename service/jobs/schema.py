"""Tables of the jobs database, the same on SQLite and PostgreSQL. `migrations` creates and changes them.

Times are seconds since 1970, as the database's clock states them.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

METADATA = MetaData(
    naming_convention={"ix": "ix_%(table_name)s_%(column_0_name)s", "fk": "fk_%(table_name)s_%(column_0_name)s"}
)

# `none_as_null`: an absent value is SQL's NULL, which a condition finds, and not JSON's.
Document = JSON(none_as_null=True)

JOBS = Table(
    "jobs",
    METADATA,
    Column("id", String(32), primary_key=True),
    Column("owner", String(320), nullable=False),
    Column("state", String(16), nullable=False),
    Column("operation", String(64), nullable=False),
    Column("parameters", Document, nullable=False),
    Column("accept", Text),
    Column("preferred", String(255)),
    Column("inputs", Document, nullable=False),
    Column("input_bytes", BigInteger, nullable=False),
    Column("batch_key", String(64), nullable=False),
    # Two submissions of one owner and identity are one job. None once another job may take the identity.
    Column("identity", String(80)),
    Column("fingerprint", String(64)),
    # Deleting the key is what erases: the sealed files can't be read without it, wherever copies of them lie.
    Column("key", LargeBinary),
    # Rises with every claim, so that a result can be refused whose worker had lost its lease: a fencing token.
    Column("attempt", Integer, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("lease_until", Float),
    Column("cancel_requested", Boolean, nullable=False),
    Column("stage", String(32)),
    Column("slices_done", Integer, nullable=False),
    Column("slices", Integer),
    Column("result", Document),
    Column("error", Document),
    Column("created", Float, nullable=False),
    Column("ended", Float),
    Column("erased", Float),
    UniqueConstraint("owner", "identity", name="uq_jobs_owner"),
    Index(None, "state", "created"),
)
ATTEMPTS = Table(
    "attempts",
    METADATA,
    Column("job", String(32), ForeignKey(JOBS.c.id), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("worker", String(64), nullable=False),
    Column("started", Float, nullable=False),
    Column("ended", Float),
    Column("outcome", String(16), nullable=False),
    Column("stage", String(32)),
)
OUTBOX = Table(
    "outbox",
    METADATA,
    # One row for each end of a job: the key keeps a repeated commit from announcing it twice.
    Column("job", String(32), ForeignKey(JOBS.c.id), primary_key=True),
    Column("event", String(16), primary_key=True),
    Column("created", Float, nullable=False),
    Column("delivered", Float),
)
