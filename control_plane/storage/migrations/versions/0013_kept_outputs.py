"""How the output of a run that is over is kept."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0009"

_TO_COMPRESS = sa.text("output_kept_as = '' AND finished_at IS NOT NULL AND output_size_bytes > 4096")


def upgrade() -> None:
    op.add_column("runs", sa.Column("output_kept_as", sa.String(16), nullable=False, server_default=""))
    op.create_index(
        "runs_to_compress",
        "runs",
        ["finished_at", "id"],
        sqlite_where=_TO_COMPRESS,
        postgresql_where=_TO_COMPRESS,
    )
