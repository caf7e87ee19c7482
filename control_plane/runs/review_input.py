"""A run and its reviews as approval policies see them, and as the API shows them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa

from control_plane.clock import to_timestamp
from control_plane.policies.inputs import Commit, RequestInfo, ReviewInfo, RunInfo, SessionInfo
from control_plane.runs.states import RunState
from control_plane.stacks.snapshot import StackSnapshot
from interlock.v1 import caller_pb2, run_pb2

# Published policies count deletions: a replaced resource is one, too.
_ACTIONS: Final[Mapping[run_pb2.ChangeAction.ValueType, Sequence[str]]] = {
    run_pb2.CHANGE_ACTION_CREATE: ("added",),
    run_pb2.CHANGE_ACTION_UPDATE: ("changed",),
    run_pb2.CHANGE_ACTION_DELETE: ("deleted",),
    run_pb2.CHANGE_ACTION_DELETE_THEN_CREATE: ("deleted", "added"),
    run_pb2.CHANGE_ACTION_CREATE_THEN_DELETE: ("added", "deleted"),
    run_pb2.CHANGE_ACTION_FORGET: ("forgotten",),
}


def run_info(
    run: sa.Row[Any],
    approval: sa.Row[Any],
    stack: StackSnapshot,
    changes: Sequence[run_pb2.ResourceChange] = (),
) -> RunInfo:
    """A task that is judged for the first time is about to be queued; afterwards it waits."""
    is_first = approval.policies_version is None and run.state == RunState.PENDING_REVIEW
    return RunInfo(
        id=run.id,
        type=run.type,
        state=RunState.QUEUED.value if is_first else run.state,
        command=run.command if run.type == "TASK" else None,
        created_at=run.created_at * 1000,
        updated_at=run.updated_at * 1000,
        branch=run.commit_ref,
        commit=Commit(hash=run.commit_hash, branch=run.commit_ref),
        creator_session=SessionInfo(**approval.creator_session),
        triggered_by=run.creator_login,
        changes=[
            {
                "action": action,
                "entity": {"address": change.address, "type": change.resource_type},
                "phase": "plan",
            }
            for change in changes
            for action in _ACTIONS.get(change.action, ())
        ],
        before_init=stack.hooks.before_init[:],
        project_root=stack.project_root,
        runner_image=stack.image,
    )


def reviews_of(run: sa.Row[Any], reviews: Sequence[sa.Row[Any]]) -> tuple[list[ReviewInfo], list[ReviewInfo]]:
    """Each person's newest, by time: those given in the state that the run is in, and those given before."""
    counting = [_review_info(row) for row in reviews if row.id in _newest(reviews)]
    current = [review for review in counting if review.state == run.state]
    return current, [review for review in counting if review.state != run.state]


def to_reviews(reviews: Sequence[sa.Row[Any]]) -> list[run_pb2.Review]:
    """All of them, oldest first."""
    newest = _newest(reviews)
    return [
        run_pb2.Review(
            id=row.id,
            reviewer=caller_pb2.Caller.FromString(row.reviewer),
            verdict=run_pb2.REVIEW_VERDICT_APPROVE if row.approves else run_pb2.REVIEW_VERDICT_REJECT,
            note=row.note,
            create_time=to_timestamp(row.created_at),
            state=RunState(row.state).to_proto(),
            superseded=row.id not in newest,
        )
        for row in reviews
    ]


def _newest(reviews: Sequence[sa.Row[Any]]) -> set[str]:
    """Ids of each person's newest review."""
    return set({row.reviewer_login: row.id for row in reviews}.values())


def _review_info(row: sa.Row[Any]) -> ReviewInfo:
    reviewer = caller_pb2.Caller.FromString(row.reviewer)
    return ReviewInfo(
        author=reviewer.login,
        name=reviewer.name,
        teams=list(reviewer.teams),
        state=row.state,
        is_approval=row.approves,
        request=RequestInfo(remote_ip=row.remote_ip, timestamp_ns=row.created_at * 1000),
    )
