"""What runners of abandoned runs report afterwards."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "late_evidence",
        sa.Column("run_id", sa.String(64), sa.ForeignKey("runs.id"), primary_key=True),
        sa.Column("returned_at", sa.BigInteger, nullable=False),
        sa.Column("reported_at", sa.BigInteger),
        sa.Column("exit_code", sa.Integer),
        sa.Column("reason", sa.Text, nullable=False, server_default=""),
        sa.Column("whole_output_size_bytes", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("whole_output_sha256", sa.String(64), nullable=False, server_default=""),
    )
