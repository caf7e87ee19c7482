"""Where each replica keeps what is not in the database."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.add_column("replicas", sa.Column("storage_id", sa.String(64), nullable=False, server_default=""))
