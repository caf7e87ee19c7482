"""Which machine a runner, and the container of an assignment, is on."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    for table in ("runners", "assignments"):
        op.add_column(table, sa.Column("machine_id", sa.String(64), nullable=False, server_default=""))
