"""Every table, in one place; migrations/ brings a database to this shape. Times are Unix microseconds (UTC)."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)
Json = JSON().with_variant(JSONB(), "postgresql")
# SQLite counts rows up by itself only for a column that is declared INTEGER.
Serial = BigInteger().with_variant(Integer(), "sqlite")

# One row a counter; "policies" changes with every policy and attachment, so that a decision can tell that it is old.
counters = Table(
    "counters",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", BigInteger, nullable=False),
)

# What a request_id was used for: the same one with the same content gives the same resource again.
requests = Table(
    "requests",
    metadata,
    Column("principal_id", String(64), primary_key=True),
    Column("method", String(64), primary_key=True),
    Column("request_id", String(128), primary_key=True),
    Column("content_sha256", String(64), nullable=False),
    Column("resource_id", String(64), nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(128), nullable=False),
    Column("login", String(128), nullable=False),
    Column("teams", Json, nullable=False),
    Column("admin", Boolean, nullable=False),
    Column("machine", Boolean, nullable=False),
    Column("secret_hash", LargeBinary, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("revoked_at", BigInteger),
    Column("last_used_at", BigInteger),
    Index(
        "api_key_login_in_force",
        "login",
        unique=True,
        sqlite_where=text("revoked_at IS NULL"),
        postgresql_where=text("revoked_at IS NULL"),
    ),
)

# What login policies made of a key, for as long as the token that names it lasts.
sessions = Table(
    "sessions",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("key_id", String(64), ForeignKey("api_keys.id"), nullable=False),
    Column("teams", Json, nullable=False),
    Column("admin", Boolean, nullable=False),
    Column("decision_id", String(64), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False, index=True),
)

pools = Table(
    "pools",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(128), nullable=False),
    Column("public", Boolean, nullable=False),
    Column("labels", Json, nullable=False),
    Column("container", LargeBinary, nullable=False),  # serialised interlock.v1.ContainerOptions
    Column("created_at", BigInteger, nullable=False),
)

pool_tokens = Table(
    "pool_tokens",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("pool_id", String(64), ForeignKey("pools.id"), nullable=False, index=True),
    Column("name", String(128), nullable=False),
    Column("secret_hash", LargeBinary, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("revoked_at", BigInteger),
    Column("last_used_at", BigInteger),
)

runners = Table(
    "runners",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("pool_id", String(64), nullable=False, index=True),
    Column("name", String(128), nullable=False),
    Column("version", String(64), nullable=False),
    Column("capacity", Integer, nullable=False),
    Column("boot_id", String(64), nullable=False),
    Column("machine_id", String(64), nullable=False, server_default=""),
    Column("connected_at", BigInteger, nullable=False),
    Column("last_seen_at", BigInteger, nullable=False),
)

# The control planes that are there. One that gives no sign of life is forgotten by the others.
replicas = Table(
    "replicas",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("address", Text, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("heartbeat_at", BigInteger, nullable=False),
    # Where it keeps what is not in the database: the same for all, or nobody could read the other's.
    Column("storage_id", String(64), nullable=False, server_default=""),
)

# Where each runner is connected: at most once, and `epoch` tells which connection that is. It only grows.
runner_connections = Table(
    "runner_connections",
    metadata,
    Column("runner_id", String(64), primary_key=True),
    Column("replica_id", String(64), index=True),  # empty: it is connected to nobody
    Column("epoch", BigInteger, nullable=False),
    Column("pool_id", String(64), nullable=False),
    Column("capacity", Integer, nullable=False),
    Column("boot_id", String(64), nullable=False),
    Column("status", LargeBinary, nullable=False),  # serialised interlock.v1.RunnerStatus
    Column("lost_at", BigInteger),  # since when it is connected to nobody
)

stacks = Table(
    "stacks",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(128), nullable=False),
    Column("description", Text, nullable=False),
    Column("labels", Json, nullable=False),
    Column("source_kind", String(16), nullable=False),  # "git" or "archive"
    Column("git_url", Text, nullable=False, server_default=""),
    Column("git_ref", Text, nullable=False, server_default=""),
    Column("git_credential_sealed", LargeBinary),  # serialised interlock.v1.GitCredential, sealed
    Column("project_root", Text, nullable=False, server_default=""),
    Column("archive_sha256", String(64), nullable=False, server_default=""),
    Column("archive_size_bytes", BigInteger, nullable=False, server_default="0"),
    Column("archive_uploaded_at", BigInteger),
    Column("tool", Integer, nullable=False),  # interlock.v1.Tool
    Column("custom_init", Json, nullable=False),
    Column("image", Text, nullable=False),
    Column("pull_policy", Integer, nullable=False),  # interlock.v1.PullPolicy
    Column("pool_id", String(64), ForeignKey("pools.id"), nullable=False, index=True),
    Column("hooks", LargeBinary, nullable=False),  # serialised interlock.v1.Hooks
    Column("administrative", Boolean, nullable=False),
    # What tracked runs do in place of the tool's own plan and apply; empty for those.
    Column("custom_plan", Json, nullable=False, server_default=text("'[]'")),
    Column("custom_apply", Json, nullable=False, server_default=text("'[]'")),
    Column("autodeploy", Boolean, nullable=False, server_default=text("false")),
    Column("lock_owner_id", String(64)),
    Column("lock_owner", LargeBinary),  # serialised interlock.v1.Caller
    Column("lock_note", Text, nullable=False, server_default=""),
    Column("locked_at", BigInteger),
    # Counts every change that a decision or an etag must notice, the lock's included.
    Column("version", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    # A deleted stack keeps its row: its id is never given again, and the record of its runs stays.
    Column("deleted_at", BigInteger),
)

environment_variables = Table(
    "environment_variables",
    metadata,
    Column("stack_id", String(64), ForeignKey("stacks.id"), primary_key=True),
    Column("name", String(256), primary_key=True),
    Column("secret", Boolean, nullable=False),
    Column("value", LargeBinary, nullable=False),  # sealed where secret
    Column("checksum", String(64), nullable=False),
)

mounted_files = Table(
    "mounted_files",
    metadata,
    Column("stack_id", String(64), ForeignKey("stacks.id"), primary_key=True),
    Column("path", String(1024), primary_key=True),
    Column("secret", Boolean, nullable=False),
    Column("content", LargeBinary, nullable=False),  # sealed where secret
    Column("size_bytes", BigInteger, nullable=False),
    Column("checksum", String(64), nullable=False),
)

# The slot of a stack: one row, made with the stack. `fence` only grows.
slots = Table(
    "slots",
    metadata,
    Column("stack_id", String(64), ForeignKey("stacks.id"), primary_key=True),
    Column("holder_run_id", String(64)),
    Column("fence", BigInteger, nullable=False, server_default="0"),
    Column("pending", Integer, nullable=False, server_default="0"),
    # When it became free; of a caller's stacks, the one that has been free for longest is served first.
    Column("ready_at", BigInteger, nullable=False, server_default="0"),
)

# The queued runs of one caller on one stack. Callers take turns on a stack, and stacks in a caller's turn.
_OPEN = "open_since IS NOT NULL AND pending > 0"
_WAITS = "pending > 0"
lanes = Table(
    "lanes",
    metadata,
    Column("stack_id", String(64), ForeignKey("stacks.id"), primary_key=True),
    Column("creator_id", String(64), primary_key=True),
    Column("caller_login", String(128), nullable=False),
    Column("pool_id", String(64), nullable=False),  # the stack's
    # The login and, a line each, those labels of the stack that have a limit: what is held back is held back together.
    Column("line", Text, nullable=False),
    Column("pending", Integer, nullable=False),
    # Since when the slot is free for this caller; empty while it is taken, or locked by somebody else. As of the last
    # moment at which something was pending.
    Column("open_since", BigInteger),
    # When it was last given the slot; 0: never.
    Column("served_at", BigInteger, nullable=False, server_default="0"),
    # Since when it waits for the slot: since its first run was queued, or since it was last given the slot.
    Column("waits_since", BigInteger, nullable=False, server_default="0"),
    Index(
        "lanes_open",
        "pool_id",
        "line",
        "open_since",
        "stack_id",
        sqlite_where=text(_OPEN),
        postgresql_where=text(_OPEN),
    ),
    Index("lanes_of_caller", "caller_login", sqlite_where=text(_WAITS), postgresql_where=text(_WAITS)),
)

# When a caller was last given a runner of a pool. Who waited longest since then is next.
turns = Table(
    "turns",
    metadata,
    Column("pool_id", String(64), primary_key=True),
    Column("caller_login", String(128), primary_key=True),
    Column("served_at", BigInteger, nullable=False),
)

# How many runs may be active or wait at once, and for how long, as admins say.
limits = Table(
    "limits",
    metadata,
    Column("kind", String(16), primary_key=True),  # a limits.limit.Kind
    Column("subject", String(128), primary_key=True),
    Column("id", String(64), nullable=False),  # for the audit log
    Column("max_active", Integer),
    Column("max_queued", Integer),
    Column("queue_timeout_us", BigInteger),
    Column("version", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
)

# The states in which a run holds its stack's slot.
_ACTIVE = (
    "state IN ('READY', 'PREPARING', 'INITIALIZING', 'PERFORMING', "
    "'PLANNING', 'UNCONFIRMED', 'CONFIRMED', 'APPLYING', 'HELD', 'EXPIRED')"
)
IS_ACTIVE = text(_ACTIVE)
_QUEUED = "state = 'QUEUED'"
_TO_APPLY = "state = 'CONFIRMED' AND assignment_id = ''"
TO_COMPRESS = "output_kept_as = '' AND finished_at IS NOT NULL AND output_size_bytes > 4096"
_IN_REVIEW = "state = 'PENDING_REVIEW'"
_PLANNED = "state = 'UNCONFIRMED'"
_QUEUED_HOLD = "type = 'HOLD' AND state = 'QUEUED'"
_LEASED = "lease_until IS NOT NULL AND state IN ('QUEUED', 'READY', 'HELD')"
_MAY_TIME_OUT = "queue_deadline IS NOT NULL AND state IN ('QUEUED', 'PENDING_REVIEW')"
_HAD_SLOT = "slot_taken_at IS NOT NULL AND finished_at IS NOT NULL"

runs = Table(
    "runs",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("stack_id", String(64), ForeignKey("stacks.id"), nullable=False),
    Column("type", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("command", Text, nullable=False),
    Column("skip_initialization", Boolean, nullable=False),
    Column("creator_id", String(64), nullable=False),
    Column("creator_login", String(128), nullable=False),
    Column("creator", LargeBinary, nullable=False),  # serialised interlock.v1.Caller
    Column("pool_id", String(64), nullable=False),
    Column("decision_id", String(64), nullable=False),
    Column("commit_hash", String(64), nullable=False, server_default=""),
    Column("commit_ref", Text, nullable=False, server_default=""),
    Column("source_sha256", String(64), nullable=False, server_default=""),
    Column("source_size_bytes", BigInteger, nullable=False, server_default="0"),
    Column("fence", BigInteger, nullable=False, server_default="0"),
    Column("assignment_id", String(64), nullable=False, server_default=""),
    Column("runner_id", String(64), nullable=False, server_default=""),
    Column("stop_requested", Boolean, nullable=False, server_default=text("false")),
    Column("unreachable_since", BigInteger),
    Column("state_reason", Text, nullable=False, server_default=""),
    Column("failure", Integer, nullable=False, server_default="0"),  # interlock.v1.RunFailure
    Column("exit_code", Integer),
    Column("output_size_bytes", BigInteger, nullable=False, server_default="0"),
    Column("output_sha256", String(64), nullable=False, server_default=""),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("performed_at", BigInteger),
    Column("finished_at", BigInteger),
    Column("output_kept_as", String(16), nullable=False, server_default=""),  # "", "compressed" or "moved"
    # Until when it may wait for a runner; empty: for ever.
    Column("queue_deadline", BigInteger),
    Column("slot_taken_at", BigInteger),
    # Tracked runs only.
    Column("auto_confirm", Boolean, nullable=False, server_default=text("false")),
    Column("plan", LargeBinary),  # serialised interlock.v1.PlanSummary
    Column("confirmation", LargeBinary),  # serialised interlock.v1.Confirmation
    # Holds only: what for, how long after each renewal, and until when; the latter by the database's clock.
    Column("purpose", Text, nullable=False, server_default=""),
    Column("lease_us", BigInteger),
    Column("lease_until", BigInteger),
    Column("release_on_expiry", Boolean, nullable=False, server_default=text("false")),
    # Invariant 1, enforced by the database: at most one active run per stack.
    Index(
        "runs_one_active", "stack_id", unique=True, sqlite_where=text(_ACTIVE), postgresql_where=text(_ACTIVE)
    ),
    Index(
        "runs_queued",
        "stack_id",
        "creator_id",
        "id",
        sqlite_where=text(_QUEUED),
        postgresql_where=text(_QUEUED),
    ),
    Index(
        "runs_may_time_out",
        "queue_deadline",
        "id",
        sqlite_where=text(_MAY_TIME_OUT),
        postgresql_where=text(_MAY_TIME_OUT),
    ),
    # How long runs had the slot: what others have to expect.
    Index(
        "runs_had_slot",
        "stack_id",
        "finished_at",
        sqlite_where=text(_HAD_SLOT),
        postgresql_where=text(_HAD_SLOT),
    ),
    # Confirmed plans that no runner has been given yet.
    Index("runs_to_apply", "pool_id", "id", sqlite_where=text(_TO_APPLY), postgresql_where=text(_TO_APPLY)),
    Index("runs_pending_review", "id", sqlite_where=text(_IN_REVIEW), postgresql_where=text(_IN_REVIEW)),
    Index("runs_unconfirmed", "id", sqlite_where=text(_PLANNED), postgresql_where=text(_PLANNED)),
    Index(
        "runs_queued_holds",
        "stack_id",
        "id",
        sqlite_where=text(_QUEUED_HOLD),
        postgresql_where=text(_QUEUED_HOLD),
    ),
    # Leases that run down, those first that end first.
    Index("runs_leased", "lease_until", sqlite_where=text(_LEASED), postgresql_where=text(_LEASED)),
    Index("runs_of_stack", "stack_id", "id"),
    # Whose output may be compressed one day: less than a block of the disk stays as it is.
    Index(
        "runs_to_compress",
        "finished_at",
        "id",
        sqlite_where=text(TO_COMPRESS),
        postgresql_where=text(TO_COMPRESS),
    ),
    Index("runs_of_creator", "creator_login", "id"),
    Index("runs_active_by_runner", "runner_id", sqlite_where=text(_ACTIVE), postgresql_where=text(_ACTIVE)),
)

run_changes = Table(
    "run_changes",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("run_id", String(64), ForeignKey("runs.id"), nullable=False, index=True),
    Column("state", String(16), nullable=False),
    Column("changed_at", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
)

# What the approval policies of a run were last asked with; one row for each run that any applied to.
run_approvals = Table(
    "run_approvals",
    metadata,
    Column("run_id", String(64), ForeignKey("runs.id"), primary_key=True),
    Column("creator_session", Json, nullable=False),
    # As of which versions and how many reviews it was judged; it is judged again where they are others now.
    Column("policies_version", BigInteger),
    Column("stack_version", BigInteger),
    Column("reviews", BigInteger, nullable=False, server_default="0"),
    Column("judged_by", Json, nullable=False, server_default="[]"),  # [[policy id, revision]]
    Column("outcome", String(16), nullable=False, server_default=""),  # a policies.combine.Approval
    Column("decision_id", String(64), nullable=False, server_default=""),
    Column("reason", Text, nullable=False, server_default=""),
)

# Only ever inserted into: each person's newest one counts.
run_reviews = Table(
    "run_reviews",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("run_id", String(64), ForeignKey("runs.id"), nullable=False, index=True),
    Column("reviewer_login", String(128), nullable=False),
    Column("reviewer", LargeBinary, nullable=False),  # serialised interlock.v1.Caller
    Column("remote_ip", String(64), nullable=False),
    Column("state", String(16), nullable=False),  # the run's, when it was given
    Column("approves", Boolean, nullable=False),
    Column("note", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

# One attempt to run one run. The job is kept sealed until it ends: a runner that restarts gets the same one again.
assignments = Table(
    "assignments",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("run_id", String(64), ForeignKey("runs.id"), nullable=False, index=True),
    Column("stack_id", String(64), nullable=False),
    Column("runner_id", String(64), nullable=False, index=True),
    Column("pool_id", String(64), nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("boot_id", String(64), nullable=False),
    # How much output its run had before: the runner counts each assignment's from 0.
    Column("output_start", BigInteger, nullable=False, server_default="0"),
    Column("machine_id", String(64), nullable=False, server_default=""),  # a boot id tells nothing without it
    Column("job_sealed", LargeBinary),  # serialised interlock.v1.Job, sealed
    Column("assigned_at", BigInteger, nullable=False),
    Column("accepted_at", BigInteger),
    Column("ended_at", BigInteger),
)

# What the plan of a tracked run left: its changes for readers, and the sealed workspace that apply goes on in.
plans = Table(
    "plans",
    metadata,
    Column("run_id", String(64), ForeignKey("runs.id"), primary_key=True),
    Column("assignment_id", String(64), nullable=False),
    # SHA-256 and length of what the runner sent, and the name of the archive that it is sealed in.
    Column("kept_sha256", String(64), nullable=False, server_default=""),
    Column("kept_size_bytes", BigInteger, nullable=False, server_default="0"),
    Column("sealed_sha256", String(64), nullable=False, server_default=""),
    Column("changes", LargeBinary),  # serialised interlock.v1.Plan, without its summary
    # The job that planned, sealed as its assignment's: apply is to be given the same one.
    Column("job_sealed", LargeBinary),
    Index(
        "plans_kept",
        "run_id",
        sqlite_where=text("sealed_sha256 <> ''"),
        postgresql_where=text("sealed_sha256 <> ''"),
    ),
)

# Run output in an object store: each row makes one object a part of it. Only ever inserted into, for the run's current
# assignment, at the end of what there is.
output_segments = Table(
    "output_segments",
    metadata,
    Column("run_id", String(64), ForeignKey("runs.id"), primary_key=True),
    Column("offset_bytes", BigInteger, primary_key=True, autoincrement=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),  # of its bytes, and in its object's name
    Column("output_sha256", String(64), nullable=False),  # of all the run's output up to its end
)

# What the runner of an abandoned run reported afterwards. Changes nothing of the run.
late_evidence = Table(
    "late_evidence",
    metadata,
    Column("run_id", String(64), ForeignKey("runs.id"), primary_key=True),
    Column("returned_at", BigInteger, nullable=False),
    Column("reported_at", BigInteger),
    Column("exit_code", Integer),
    Column("reason", Text, nullable=False, server_default=""),
    # Of the run's own output and the late output together.
    Column("whole_output_size_bytes", BigInteger, nullable=False, server_default="0"),
    Column("whole_output_sha256", String(64), nullable=False, server_default=""),
)

policies = Table(
    "policies",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(128), nullable=False),
    Column("description", Text, nullable=False),
    Column("kind", String(16), nullable=False),  # a policies.kinds.Kind
    Column("body", Text, nullable=False),  # the author's text
    Column("module", Text, nullable=False),  # as OPA gets it
    Column("rego_version", Integer, nullable=False),  # interlock.v1.RegoVersion
    Column("labels", Json, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    # How often in a row it used more time or memory than it may; since when, and why, it is not asked any more.
    Column("overruns", BigInteger, nullable=False, server_default="0"),
    Column("quarantined_at", BigInteger),
    Column("quarantine_cause", Text, nullable=False, server_default=""),
)

# All that a policy ever was; decisions name a revision, so rows outlive the policy.
policy_revisions = Table(
    "policy_revisions",
    metadata,
    Column("policy_id", String(64), primary_key=True),
    Column("revision", BigInteger, primary_key=True),
    Column("body", Text, nullable=False),
    Column("author", LargeBinary, nullable=False),  # serialised interlock.v1.Caller
    Column("created_at", BigInteger, nullable=False),
    Column("name", String(128), nullable=False, server_default=""),
    Column("description", Text, nullable=False, server_default=""),
    Column("labels", Json, nullable=False, server_default="[]"),
    Column("change", Text, nullable=False, server_default=""),  # what was done, for people
)

policy_attachments = Table(
    "policy_attachments",
    metadata,
    Column("policy_id", String(64), ForeignKey("policies.id"), primary_key=True),
    Column("stack_id", String(64), ForeignKey("stacks.id"), primary_key=True),
    Column("attached_at", BigInteger, nullable=False),
    # Evaluated and recorded, and never counts.
    Column("shadow", Boolean, nullable=False, server_default=text("false")),
    Index("policy_attachments_of_stack", "stack_id"),
)

# One evaluation of all policies that apply, stored whole.
decisions = Table(
    "decisions",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("stack_id", String(64), nullable=False, index=True),
    Column("run_id", String(64), nullable=False, index=True),  # empty where nothing was created
    Column("caller_login", String(128), nullable=False),
    Column("allowed", Boolean, nullable=False),
    Column("input", Text, nullable=False),  # JSON
    Column("policies", Text, nullable=False),  # JSON: [{id, name, kind, revision}]
    Column("result", Text, nullable=False),  # JSON
    Column("took_us", BigInteger, nullable=False),
    Column("decided_at", BigInteger, nullable=False),
    # A policy asks for it to be kept as a sample.
    Column("sample", Boolean, nullable=False, server_default=text("false")),
    Column("shadow", Text, nullable=False, server_default="[]"),  # JSON: what policies in shadow mode said
)

# Only ever inserted into; triggers refuse the rest.
audit_events = Table(
    "audit_events",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("occurred_at", BigInteger, nullable=False),
    Column("caller_id", String(64), nullable=False),
    Column("caller_login", String(128), nullable=False),
    Column("caller", LargeBinary, nullable=False),  # serialised interlock.v1.Caller
    Column("action", String(64), nullable=False),
    Column("resource_type", String(32), nullable=False),
    Column("resource_id", String(64), nullable=False),
    Column("stack_id", String(64), nullable=False),
    Column("remote_ip", String(64), nullable=False),
    Column("details", Text, nullable=False),  # JSON with sorted keys
    Index("audit_events_of_caller", "caller_login", "id"),
    Index("audit_events_of_resource", "resource_id", "id"),
    Index("audit_events_of_stack", "stack_id", "id"),
)

# The order of the log: each seal's hash is over its event and the hash before. Only ever inserted into.
audit_seals = Table(
    "audit_seals",
    metadata,
    Column("sequence", Serial, primary_key=True, autoincrement=False),
    Column("event_id", String(64), nullable=False),
    Column("previous_hash", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
    UniqueConstraint("event_id"),
)

# Events that wait for their seal: a trigger adds a row with each event, the sealer takes it away with the seal.
audit_unsealed = Table(
    "audit_unsealed",
    metadata,
    Column("event_id", String(64), primary_key=True),
)

# One row, from the first start on: the master key that everything sealed in this database belongs to.
installation = Table(
    "installation",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("key_fingerprint", String(64), nullable=False),
    Column("recorded_at", BigInteger, nullable=False),
)
