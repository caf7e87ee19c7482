"""Reviews and what waits for them, sessions that login policies gave, whole revisions, shadow policies."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0004"
down_revision = "0003"

JSON = sa.JSON().with_variant(JSONB(), "postgresql")
WAITING = "state = 'PENDING_REVIEW'"


def upgrade() -> None:
    create_reviews()
    create_sessions()
    extend_policies()
    extend_decisions()


def create_reviews() -> None:
    op.create_table(
        "run_approvals",
        sa.Column("run_id", sa.String(64), sa.ForeignKey("runs.id"), primary_key=True),
        sa.Column("creator_session", JSON, nullable=False),
        sa.Column("policies_version", sa.BigInteger),
        sa.Column("stack_version", sa.BigInteger),
        sa.Column("reviews", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("judged_by", JSON, nullable=False, server_default="[]"),
        sa.Column("decision_id", sa.String(64), nullable=False, server_default=""),
        sa.Column("reason", sa.Text, nullable=False, server_default=""),
    )
    op.create_table(
        "run_reviews",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("run_id", sa.String(64), sa.ForeignKey("runs.id"), nullable=False),
        sa.Column("reviewer_login", sa.String(128), nullable=False),
        sa.Column("reviewer", sa.LargeBinary, nullable=False),
        sa.Column("remote_ip", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("approves", sa.Boolean, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_run_reviews_run_id", "run_reviews", ["run_id"])
    op.create_index(
        "runs_pending_review",
        "runs",
        ["id"],
        sqlite_where=sa.text(WAITING),
        postgresql_where=sa.text(WAITING),
    )


def create_sessions() -> None:
    op.create_table(
        "sessions",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("key_id", sa.String(64), sa.ForeignKey("api_keys.id"), nullable=False),
        sa.Column("teams", JSON, nullable=False),
        sa.Column("admin", sa.Boolean, nullable=False),
        sa.Column("decision_id", sa.String(64), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_sessions_expires_at", "sessions", ["expires_at"])


def extend_policies() -> None:
    op.add_column(
        "policy_attachments",
        sa.Column("shadow", sa.Boolean, nullable=False, server_default=sa.text("false")),
    )
    op.add_column("policy_revisions", sa.Column("name", sa.String(128), nullable=False, server_default=""))
    op.add_column("policy_revisions", sa.Column("description", sa.Text, nullable=False, server_default=""))
    op.add_column("policy_revisions", sa.Column("labels", JSON, nullable=False, server_default="[]"))
    op.add_column("policy_revisions", sa.Column("change", sa.Text, nullable=False, server_default=""))
    # Until now a revision was a body only: what else a policy had then is not known, so it has what it has now.
    op.execute(
        "UPDATE policy_revisions SET"
        " name = (SELECT name FROM policies WHERE policies.id = policy_revisions.policy_id),"
        " description = (SELECT description FROM policies WHERE policies.id = policy_revisions.policy_id),"
        " labels = (SELECT labels FROM policies WHERE policies.id = policy_revisions.policy_id)"
        " WHERE EXISTS (SELECT 1 FROM policies WHERE policies.id = policy_revisions.policy_id)"
    )


def extend_decisions() -> None:
    op.add_column(
        "decisions", sa.Column("sample", sa.Boolean, nullable=False, server_default=sa.text("false"))
    )
    op.add_column("decisions", sa.Column("shadow", sa.Text, nullable=False, server_default="[]"))
    op.create_index("ix_decisions_run_id", "decisions", ["run_id"])
