"""Jobs, their attempts, and the outbox."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("owner", sa.String(320), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("operation", sa.String(64), nullable=False),
        sa.Column("parameters", sa.JSON, nullable=False),
        sa.Column("accept", sa.Text),
        sa.Column("preferred", sa.String(255)),
        sa.Column("inputs", sa.JSON, nullable=False),
        sa.Column("input_bytes", sa.BigInteger, nullable=False),
        sa.Column("batch_key", sa.String(64), nullable=False),
        sa.Column("identity", sa.String(80)),
        sa.Column("fingerprint", sa.String(64)),
        sa.Column("key", sa.LargeBinary),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("lease_until", sa.Float),
        sa.Column("cancel_requested", sa.Boolean, nullable=False),
        sa.Column("stage", sa.String(32)),
        sa.Column("slices_done", sa.Integer, nullable=False),
        sa.Column("slices", sa.Integer),
        sa.Column("result", sa.JSON),
        sa.Column("error", sa.JSON),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("ended", sa.Float),
        sa.Column("erased", sa.Float),
        sa.UniqueConstraint("owner", "identity", name="uq_jobs_owner"),
    )
    op.create_index("ix_jobs_state", "jobs", ["state", "created"])
    op.create_table(
        "attempts",
        sa.Column("job", sa.String(32), sa.ForeignKey("jobs.id", name="fk_attempts_job"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("worker", sa.String(64), nullable=False),
        sa.Column("started", sa.Float, nullable=False),
        sa.Column("ended", sa.Float),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("stage", sa.String(32)),
    )
    op.create_table(
        "outbox",
        sa.Column("job", sa.String(32), sa.ForeignKey("jobs.id", name="fk_outbox_job"), primary_key=True),
        sa.Column("event", sa.String(16), primary_key=True),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("delivered", sa.Float),
    )
