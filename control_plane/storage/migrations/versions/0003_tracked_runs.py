"""Tracked runs: their states, their plans, and a stack's own plan and apply."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0003"
down_revision = "0002"

JSON = sa.JSON().with_variant(JSONB(), "postgresql")
ACTIVE = sa.text(
    "state IN ('READY', 'PREPARING', 'INITIALIZING', 'PERFORMING', "
    "'PLANNING', 'UNCONFIRMED', 'CONFIRMED', 'APPLYING')"
)
TO_APPLY = sa.text("state = 'CONFIRMED' AND assignment_id = ''")
KEPT = sa.text("sealed_sha256 <> ''")


def upgrade() -> None:
    for name in ("custom_plan", "custom_apply"):
        op.add_column("stacks", sa.Column(name, JSON, nullable=False, server_default=sa.text("'[]'")))
    op.add_column("stacks", _flag("autodeploy"))
    op.add_column("runs", _flag("auto_confirm"))
    op.add_column("runs", sa.Column("plan", sa.LargeBinary))
    op.add_column("runs", sa.Column("confirmation", sa.LargeBinary))
    op.add_column("assignments", sa.Column("output_start", sa.BigInteger, nullable=False, server_default="0"))
    op.create_table(
        "plans",
        sa.Column("run_id", sa.String(64), sa.ForeignKey("runs.id"), primary_key=True),
        sa.Column("assignment_id", sa.String(64), nullable=False),
        sa.Column("kept_sha256", sa.String(64), nullable=False, server_default=""),
        sa.Column("kept_size_bytes", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("sealed_sha256", sa.String(64), nullable=False, server_default=""),
        sa.Column("changes", sa.LargeBinary),
        sa.Column("job_sealed", sa.LargeBinary),
    )
    op.create_index("plans_kept", "plans", ["run_id"], sqlite_where=KEPT, postgresql_where=KEPT)
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
        "runs_to_apply", "runs", ["pool_id", "id"], sqlite_where=TO_APPLY, postgresql_where=TO_APPLY
    )


def _flag(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean, nullable=False, server_default=sa.text("false"))
