"""Policies that use more time or memory than they may: how often in a row, and since when they are not asked any more."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0010"


def upgrade() -> None:
    op.add_column("policies", sa.Column("overruns", sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("policies", sa.Column("quarantined_at", sa.BigInteger))
    op.add_column("policies", sa.Column("quarantine_cause", sa.Text, nullable=False, server_default=""))
