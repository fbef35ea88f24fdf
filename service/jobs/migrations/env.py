"""Alembic's entry point: run the revisions on the connection that `database.migrate` passes."""

from alembic import context
from kdmri_service.jobs.schema import METADATA

# SQLite can roll a changed table back, but Alembic assumes that it can't: without this a crash would leave half a
# revision.
context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
