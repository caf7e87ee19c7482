"""Rows of runs as the API's messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from control_plane.clock import to_timestamp
from control_plane.runs import store
from control_plane.runs.states import RunState
from control_plane.stacks.slot_holder import to_hold
from interlock.v1 import caller_pb2, run_pb2


def stored(connection: sa.Connection, run_id: str) -> run_pb2.Run:
    """A run that must be there, with its history."""
    row = store.find(connection, run_id)
    if row is None:
        raise LookupError(f"{run_id} was recorded and has no row")
    return to_run(row, history=store.history(connection, run_id))


def to_run(
    row: sa.Row[Any],
    *,
    output_size_bytes: int | None = None,
    waiting: run_pb2.Waiting | None = None,
    history: Sequence[sa.Row[Any, Any, Any]] = (),
    reviews: Sequence[run_pb2.Review] = (),
    approval_decision_id: str = "",
) -> run_pb2.Run:
    """The message of a row; `output_size_bytes` is what is durable of an active run's output."""
    run = run_pb2.Run(
        id=row.id,
        stack_id=row.stack_id,
        type=run_pb2.RunType.Value(f"RUN_TYPE_{row.type}"),
        state=RunState(row.state).to_proto(),
        command=row.command,
        skip_initialization=row.skip_initialization,
        creator=caller_pb2.Caller.FromString(row.creator),
        create_time=to_timestamp(row.created_at),
        update_time=to_timestamp(row.updated_at),
        state_reason=row.state_reason,
        failure=row.failure,
        exit_code=row.exit_code,
        output_size_bytes=row.output_size_bytes if output_size_bytes is None else output_size_bytes,
        output_sha256=row.output_sha256 if RunState(row.state).is_final else "",
        decision_id=row.decision_id,
        fencing_token=row.fence,
        runner_id=row.runner_id,
        source_sha256=row.source_sha256,
        stop_requested=row.stop_requested,
        auto_confirm=row.auto_confirm,
        waiting=waiting,
        history=[
            run_pb2.StateChange(
                state=RunState(change.state).to_proto(),
                change_time=to_timestamp(change.changed_at),
                reason=change.reason,
            )
            for change in history
        ],
        reviews=reviews,
        approval_decision_id=approval_decision_id,
    )
    if row.performed_at is not None:
        run.perform_time.CopyFrom(to_timestamp(row.performed_at))
    if row.finished_at is not None:
        run.finish_time.CopyFrom(to_timestamp(row.finished_at))
    if row.unreachable_since is not None:
        run.unreachable_since.CopyFrom(to_timestamp(row.unreachable_since))
    if row.queue_deadline is not None:
        run.queue_deadline.CopyFrom(to_timestamp(row.queue_deadline))
    if row.plan is not None:
        run.plan.MergeFromString(row.plan)
    if row.confirmation is not None:
        run.confirmation.MergeFromString(row.confirmation)
    if row.type == "HOLD":
        lease_until = row.lease_until if RunState(row.state).is_active else None
        terms = to_hold(row.purpose, row.lease_us, lease_until, release_on_expiry=row.release_on_expiry)
        run.hold.CopyFrom(terms)
    if row.commit_hash:
        run.commit.CopyFrom(run_pb2.Commit(hash=row.commit_hash, ref=row.commit_ref))
    return run
