"""Alembic's entry: runs the revisions on the connection that storage/migrate.py has opened and locked."""

from __future__ import annotations

from alembic import context

from control_plane.storage.tables import metadata

# The naming convention of the metadata gives the constraints of op.create_table their names.
context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
