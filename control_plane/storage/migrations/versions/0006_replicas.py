"""Several control planes: who is there, and where each runner is connected."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "replicas",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("heartbeat_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "runner_connections",
        sa.Column("runner_id", sa.String(64), primary_key=True),
        sa.Column("replica_id", sa.String(64)),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("pool_id", sa.String(64), nullable=False),
        sa.Column("capacity", sa.Integer, nullable=False),
        sa.Column("boot_id", sa.String(64), nullable=False),
        sa.Column("status", sa.LargeBinary, nullable=False),
        sa.Column("lost_at", sa.BigInteger),
    )
    op.create_index("ix_runner_connections_replica_id", "runner_connections", ["replica_id"])
