"""Approval of tracked runs' plans: what the policies came to is asked when a plan is confirmed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

UNCONFIRMED = "state = 'UNCONFIRMED'"


def upgrade() -> None:
    op.add_column("run_approvals", sa.Column("outcome", sa.String(16), nullable=False, server_default=""))
    op.create_index(
        "runs_unconfirmed",
        "runs",
        ["id"],
        sqlite_where=sa.text(UNCONFIRMED),
        postgresql_where=sa.text(UNCONFIRMED),
    )
