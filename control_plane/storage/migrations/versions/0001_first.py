"""The first shape: every table as it was in release 0.1, the audit log's triggers, the pool "public"."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from control_plane import clock
from control_plane.audit import triggers

revision = "0001"
down_revision = None

JSON = sa.JSON().with_variant(JSONB(), "postgresql")
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
ACTIVE = "state IN ('READY', 'PREPARING', 'INITIALIZING', 'PERFORMING')"


def upgrade() -> None:
    create_identity()
    create_pools()
    create_stacks()
    create_runs()
    create_policies()
    create_audit()
    insert_first_rows()


def create_identity() -> None:
    op.create_table(
        "counters",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("value", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "requests",
        sa.Column("principal_id", sa.String(64), primary_key=True),
        sa.Column("method", sa.String(64), primary_key=True),
        sa.Column("request_id", sa.String(128), primary_key=True),
        sa.Column("content_sha256", sa.String(64), nullable=False),
        sa.Column("resource_id", sa.String(64), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("login", sa.String(128), nullable=False),
        sa.Column("teams", JSON, nullable=False),
        sa.Column("admin", sa.Boolean, nullable=False),
        sa.Column("machine", sa.Boolean, nullable=False),
        sa.Column("secret_hash", sa.LargeBinary, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger),
        sa.Column("revoked_at", sa.BigInteger),
        sa.Column("last_used_at", sa.BigInteger),
    )
    create_partial_index("api_key_login_in_force", "api_keys", ["login"], "revoked_at IS NULL", unique=True)


def create_pools() -> None:
    op.create_table(
        "pools",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("public", sa.Boolean, nullable=False),
        sa.Column("labels", JSON, nullable=False),
        sa.Column("container", sa.LargeBinary, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "pool_tokens",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("pool_id", sa.String(64), sa.ForeignKey("pools.id"), nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("secret_hash", sa.LargeBinary, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("revoked_at", sa.BigInteger),
        sa.Column("last_used_at", sa.BigInteger),
    )
    op.create_index("ix_pool_tokens_pool_id", "pool_tokens", ["pool_id"])
    op.create_table(
        "runners",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("pool_id", sa.String(64), nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("version", sa.String(64), nullable=False),
        sa.Column("capacity", sa.Integer, nullable=False),
        sa.Column("boot_id", sa.String(64), nullable=False),
        sa.Column("connected_at", sa.BigInteger, nullable=False),
        sa.Column("last_seen_at", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_runners_pool_id", "runners", ["pool_id"])


def create_stacks() -> None:
    op.create_table(
        "stacks",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("labels", JSON, nullable=False),
        sa.Column("source_kind", sa.String(16), nullable=False),
        sa.Column("git_url", sa.Text, nullable=False, server_default=""),
        sa.Column("git_ref", sa.Text, nullable=False, server_default=""),
        sa.Column("git_credential_sealed", sa.LargeBinary),
        sa.Column("project_root", sa.Text, nullable=False, server_default=""),
        sa.Column("archive_sha256", sa.String(64), nullable=False, server_default=""),
        sa.Column("archive_size_bytes", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("archive_uploaded_at", sa.BigInteger),
        sa.Column("tool", sa.Integer, nullable=False),
        sa.Column("custom_init", JSON, nullable=False),
        sa.Column("image", sa.Text, nullable=False),
        sa.Column("pull_policy", sa.Integer, nullable=False),
        sa.Column("pool_id", sa.String(64), sa.ForeignKey("pools.id"), nullable=False),
        sa.Column("hooks", sa.LargeBinary, nullable=False),
        sa.Column("administrative", sa.Boolean, nullable=False),
        sa.Column("lock_owner_id", sa.String(64)),
        sa.Column("lock_owner", sa.LargeBinary),
        sa.Column("lock_note", sa.Text, nullable=False, server_default=""),
        sa.Column("locked_at", sa.BigInteger),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.Column("deleted_at", sa.BigInteger),
    )
    op.create_index("ix_stacks_pool_id", "stacks", ["pool_id"])
    op.create_table(
        "environment_variables",
        sa.Column("stack_id", sa.String(64), sa.ForeignKey("stacks.id"), primary_key=True),
        sa.Column("name", sa.String(256), primary_key=True),
        sa.Column("secret", sa.Boolean, nullable=False),
        sa.Column("value", sa.LargeBinary, nullable=False),
        sa.Column("checksum", sa.String(64), nullable=False),
    )
    op.create_table(
        "mounted_files",
        sa.Column("stack_id", sa.String(64), sa.ForeignKey("stacks.id"), primary_key=True),
        sa.Column("path", sa.String(1024), primary_key=True),
        sa.Column("secret", sa.Boolean, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("checksum", sa.String(64), nullable=False),
    )
    op.create_table(
        "slots",
        sa.Column("stack_id", sa.String(64), sa.ForeignKey("stacks.id"), primary_key=True),
        sa.Column("holder_run_id", sa.String(64)),
        sa.Column("fence", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("pending", sa.Integer, nullable=False, server_default="0"),
        sa.Column("ready_at", sa.BigInteger, nullable=False, server_default="0"),
    )
    create_partial_index(
        "slots_ready", "slots", ["ready_at", "stack_id"], "holder_run_id IS NULL AND pending > 0"
    )


def create_runs() -> None:
    op.create_table(
        "runs",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("stack_id", sa.String(64), sa.ForeignKey("stacks.id"), nullable=False),
        sa.Column("type", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("command", sa.Text, nullable=False),
        sa.Column("skip_initialization", sa.Boolean, nullable=False),
        sa.Column("creator_id", sa.String(64), nullable=False),
        sa.Column("creator_login", sa.String(128), nullable=False),
        sa.Column("creator", sa.LargeBinary, nullable=False),
        sa.Column("pool_id", sa.String(64), nullable=False),
        sa.Column("decision_id", sa.String(64), nullable=False),
        sa.Column("commit_hash", sa.String(64), nullable=False, server_default=""),
        sa.Column("commit_ref", sa.Text, nullable=False, server_default=""),
        sa.Column("source_sha256", sa.String(64), nullable=False, server_default=""),
        sa.Column("source_size_bytes", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("fence", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("assignment_id", sa.String(64), nullable=False, server_default=""),
        sa.Column("runner_id", sa.String(64), nullable=False, server_default=""),
        sa.Column("stop_requested", sa.Boolean, nullable=False, server_default=sa.text("false")),
        sa.Column("unreachable_since", sa.BigInteger),
        sa.Column("state_reason", sa.Text, nullable=False, server_default=""),
        sa.Column("failure", sa.Integer, nullable=False, server_default="0"),
        sa.Column("exit_code", sa.Integer),
        sa.Column("output_size_bytes", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("output_sha256", sa.String(64), nullable=False, server_default=""),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.Column("performed_at", sa.BigInteger),
        sa.Column("finished_at", sa.BigInteger),
    )
    create_partial_index("runs_active_by_runner", "runs", ["runner_id"], ACTIVE)
    op.create_index("runs_of_creator", "runs", ["creator_login", "id"])
    op.create_index("runs_of_stack", "runs", ["stack_id", "id"])
    create_partial_index("runs_one_active", "runs", ["stack_id"], ACTIVE, unique=True)
    create_partial_index("runs_queued", "runs", ["stack_id", "id"], "state = 'QUEUED'")
    op.create_table(
        "run_changes",
        sa.Column("id", SERIAL, primary_key=True, autoincrement=True),
        sa.Column("run_id", sa.String(64), sa.ForeignKey("runs.id"), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("changed_at", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
    )
    op.create_index("ix_run_changes_run_id", "run_changes", ["run_id"])
    op.create_table(
        "assignments",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("run_id", sa.String(64), sa.ForeignKey("runs.id"), nullable=False),
        sa.Column("stack_id", sa.String(64), nullable=False),
        sa.Column("runner_id", sa.String(64), nullable=False),
        sa.Column("pool_id", sa.String(64), nullable=False),
        sa.Column("fence", sa.BigInteger, nullable=False),
        sa.Column("boot_id", sa.String(64), nullable=False),
        sa.Column("job_sealed", sa.LargeBinary),
        sa.Column("assigned_at", sa.BigInteger, nullable=False),
        sa.Column("accepted_at", sa.BigInteger),
        sa.Column("ended_at", sa.BigInteger),
    )
    op.create_index("ix_assignments_run_id", "assignments", ["run_id"])
    op.create_index("ix_assignments_runner_id", "assignments", ["runner_id"])


def create_policies() -> None:
    op.create_table(
        "policies",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("module", sa.Text, nullable=False),
        sa.Column("rego_version", sa.Integer, nullable=False),
        sa.Column("labels", JSON, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "policy_revisions",
        sa.Column("policy_id", sa.String(64), primary_key=True),
        sa.Column("revision", sa.BigInteger, primary_key=True),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("author", sa.LargeBinary, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "policy_attachments",
        sa.Column("policy_id", sa.String(64), sa.ForeignKey("policies.id"), primary_key=True),
        sa.Column("stack_id", sa.String(64), sa.ForeignKey("stacks.id"), primary_key=True),
        sa.Column("attached_at", sa.BigInteger, nullable=False),
    )
    op.create_index("policy_attachments_of_stack", "policy_attachments", ["stack_id"])
    op.create_table(
        "decisions",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("stack_id", sa.String(64), nullable=False),
        sa.Column("run_id", sa.String(64), nullable=False),
        sa.Column("caller_login", sa.String(128), nullable=False),
        sa.Column("allowed", sa.Boolean, nullable=False),
        sa.Column("input", sa.Text, nullable=False),
        sa.Column("policies", sa.Text, nullable=False),
        sa.Column("result", sa.Text, nullable=False),
        sa.Column("took_us", sa.BigInteger, nullable=False),
        sa.Column("decided_at", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_decisions_stack_id", "decisions", ["stack_id"])


def create_audit() -> None:
    op.create_table(
        "audit_events",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("occurred_at", sa.BigInteger, nullable=False),
        sa.Column("caller_id", sa.String(64), nullable=False),
        sa.Column("caller_login", sa.String(128), nullable=False),
        sa.Column("caller", sa.LargeBinary, nullable=False),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("resource_type", sa.String(32), nullable=False),
        sa.Column("resource_id", sa.String(64), nullable=False),
        sa.Column("stack_id", sa.String(64), nullable=False),
        sa.Column("remote_ip", sa.String(64), nullable=False),
        sa.Column("details", sa.Text, nullable=False),
    )
    op.create_index("audit_events_of_caller", "audit_events", ["caller_login", "id"])
    op.create_index("audit_events_of_resource", "audit_events", ["resource_id", "id"])
    op.create_index("audit_events_of_stack", "audit_events", ["stack_id", "id"])
    op.create_table(
        "audit_seals",
        sa.Column("sequence", SERIAL, primary_key=True, autoincrement=False),
        sa.Column("event_id", sa.String(64), nullable=False),
        sa.Column("previous_hash", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.UniqueConstraint("event_id"),
    )
    op.create_table(
        "audit_unsealed",
        sa.Column("event_id", sa.String(64), primary_key=True),
    )
    for statement in triggers.statements(op.get_bind().dialect.name):
        op.execute(statement)


def insert_first_rows() -> None:
    pools = sa.table(
        "pools",
        sa.column("id"),
        sa.column("name"),
        sa.column("public"),
        sa.column("labels", JSON),
        sa.column("container"),
        sa.column("created_at"),
    )
    public = {"id": "public", "name": "Public", "public": True, "labels": [], "container": b""}
    op.bulk_insert(pools, [{**public, "created_at": clock.now_us()}])
    counters = sa.table("counters", sa.column("name"), sa.column("value"))
    op.bulk_insert(counters, [{"name": "policies", "value": 0}])


def create_partial_index(
    name: str, table: str, columns: list[str], where: str, *, unique: bool = False
) -> None:
    condition = sa.text(where)
    op.create_index(name, table, columns, unique=unique, sqlite_where=condition, postgresql_where=condition)
