"""Lanes and turns, so that callers take turns; limits; how long a run may wait, and how long it had the slot."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"

_QUEUED = "state = 'QUEUED'"
_OPEN = "open_since IS NOT NULL AND pending > 0"
_PENDING = "pending > 0"
_MAY_TIME_OUT = "queue_deadline IS NOT NULL AND state IN ('QUEUED', 'PENDING_REVIEW')"
_HAD_SLOT = "slot_taken_at IS NOT NULL AND finished_at IS NOT NULL"

# What is queued when the release is put in.
_FILL_LANES = """
    INSERT INTO lanes (stack_id, creator_id, caller_login, pool_id, line, pending, open_since, served_at, waits_since)
    SELECT runs.stack_id, runs.creator_id, max(runs.creator_login), max(stacks.pool_id), max(runs.creator_login),
           count(*),
           CASE WHEN max(slots.holder_run_id) IS NULL
                 AND (max(stacks.lock_owner_id) IS NULL OR max(stacks.lock_owner_id) = runs.creator_id)
                THEN max(slots.ready_at) END,
           0, min(runs.created_at)
    FROM runs JOIN stacks ON stacks.id = runs.stack_id JOIN slots ON slots.stack_id = runs.stack_id
    WHERE runs.state = 'QUEUED'
    GROUP BY runs.stack_id, runs.creator_id
"""


def upgrade() -> None:
    op.create_table(
        "lanes",
        sa.Column("stack_id", sa.String(64), sa.ForeignKey("stacks.id"), primary_key=True),
        sa.Column("creator_id", sa.String(64), primary_key=True),
        sa.Column("caller_login", sa.String(128), nullable=False),
        sa.Column("pool_id", sa.String(64), nullable=False),
        sa.Column("line", sa.Text, nullable=False),
        sa.Column("pending", sa.Integer, nullable=False),
        sa.Column("open_since", sa.BigInteger),
        sa.Column("served_at", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("waits_since", sa.BigInteger, nullable=False, server_default="0"),
    )
    op.create_table(
        "turns",
        sa.Column("pool_id", sa.String(64), primary_key=True),
        sa.Column("caller_login", sa.String(128), primary_key=True),
        sa.Column("served_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "limits",
        sa.Column("kind", sa.String(16), primary_key=True),
        sa.Column("subject", sa.String(128), primary_key=True),
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("max_active", sa.Integer),
        sa.Column("max_queued", sa.Integer),
        sa.Column("queue_timeout_us", sa.BigInteger),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
    )
    for column in ("queue_deadline", "slot_taken_at"):
        op.add_column("runs", sa.Column(column, sa.BigInteger))
    op.drop_index("runs_queued", "runs")
    op.drop_index("slots_ready", "slots")
    _create_index("runs_queued", "runs", ["stack_id", "creator_id", "id"], _QUEUED)
    _create_index("runs_may_time_out", "runs", ["queue_deadline", "id"], _MAY_TIME_OUT)
    _create_index("runs_had_slot", "runs", ["stack_id", "finished_at"], _HAD_SLOT)
    op.execute(_FILL_LANES)
    _create_index("lanes_open", "lanes", ["pool_id", "line", "open_since", "stack_id"], _OPEN)
    _create_index("lanes_of_caller", "lanes", ["caller_login"], _PENDING)


def _create_index(name: str, table: str, columns: list[str], where: str) -> None:
    op.create_index(name, table, columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))
