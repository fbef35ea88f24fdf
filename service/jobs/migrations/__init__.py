"""Migrations of the jobs database, run by Alembic as the service starts."""
