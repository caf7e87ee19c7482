"""The slot lent to outsiders: holds, their leases, and their states among the active ones."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0013"

ACTIVE = sa.text(
    "state IN ('READY', 'PREPARING', 'INITIALIZING', 'PERFORMING', "
    "'PLANNING', 'UNCONFIRMED', 'CONFIRMED', 'APPLYING', 'HELD', 'EXPIRED')"
)
QUEUED_HOLD = sa.text("type = 'HOLD' AND state = 'QUEUED'")
LEASED = sa.text("lease_until IS NOT NULL AND state IN ('QUEUED', 'READY', 'HELD')")


def upgrade() -> None:
    op.add_column("runs", sa.Column("purpose", sa.Text, nullable=False, server_default=""))
    op.add_column("runs", sa.Column("lease_us", sa.BigInteger))
    op.add_column("runs", sa.Column("lease_until", sa.BigInteger))
    op.add_column(
        "runs", sa.Column("release_on_expiry", sa.Boolean, nullable=False, server_default=sa.text("false"))
    )
    # Invariant 1 holds for the new states too.
    op.drop_index("runs_one_active", "runs")
    op.drop_index("runs_active_by_runner", "runs")
    op.create_index(
        "runs_one_active", "runs", ["stack_id"], unique=True, sqlite_where=ACTIVE, postgresql_where=ACTIVE
    )
    op.create_index(
        "runs_active_by_runner", "runs", ["runner_id"], sqlite_where=ACTIVE, postgresql_where=ACTIVE
    )
    op.create_index(
        "runs_queued_holds",
        "runs",
        ["stack_id", "id"],
        sqlite_where=QUEUED_HOLD,
        postgresql_where=QUEUED_HOLD,
    )
    op.create_index("runs_leased", "runs", ["lease_until"], sqlite_where=LEASED, postgresql_where=LEASED)
