"""ExplainTask: the decision of CreateTask, made to be shown. Nothing is created, nothing is stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from control_plane import errors
from control_plane.identity.principal import Principal
from control_plane.policies import records
from control_plane.policies.combine import AccessLevel, Approval
from control_plane.policies.decision_messages import explained
from control_plane.policies.errors import EvaluationFailed
from control_plane.policies.tasks import TaskJudge, TaskOutcome
from control_plane.runs.asked_approval import AskedApprovals
from control_plane.runs.states import RunState
from control_plane.stacks import snapshot
from control_plane.stacks.errors import StackLocked
from control_plane.stacks.locks import require_not_locked_against
from control_plane.stacks.snapshot import StackSnapshot
from control_plane.storage.database import Database
from interlock.v1 import run_pb2
from interlock.v1 import run_service_pb2 as rpc

_STATES: Final = {
    Approval.APPROVED: RunState.QUEUED,
    Approval.UNDECIDED: RunState.PENDING_REVIEW,
    Approval.REJECTED: RunState.FAILED,
}


class Explanations:
    def __init__(self, db: Database, tasks: TaskJudge, approvals: AskedApprovals) -> None:
        self._db = db
        self._tasks = tasks
        self._approvals = approvals

    async def of_task(self, principal: Principal, request: rpc.ExplainTaskRequest) -> rpc.ExplainTaskResponse:
        """As RunService.ExplainTask says."""
        basis = await self._db.read(lambda tx: _look(tx, request.stack_id))
        outcome = await self._tasks.judge(
            principal, basis.stack, request.command, policies_version=basis.policies_version
        )
        decision = explained(outcome.record)
        if refusal := _refusal(principal, basis.stack, outcome):
            return rpc.ExplainTaskResponse(outcome=refusal, decision=decision)
        response = rpc.ExplainTaskResponse(
            allowed=True, outcome="it would be queued", state=run_pb2.RUN_STATE_QUEUED, decision=decision
        )
        if outcome.needs_approval:
            verdict = await self._approvals.of_task(principal, basis.stack, request.command)
            state = _STATES[verdict.outcome]
            response.state = state.to_proto()
            response.outcome = f"it would be {state}: {verdict.reason}"
            response.approval.CopyFrom(explained(verdict.record))
        return response


@dataclass(frozen=True, slots=True)
class _Basis:
    """What is judged, read at one moment."""

    stack: StackSnapshot
    policies_version: int


def _look(tx: sa.Connection, stack_id: str) -> _Basis:
    return _Basis(snapshot.load(tx, stack_id), records.policies_version(tx))


def _refusal(principal: Principal, stack: StackSnapshot, outcome: TaskOutcome) -> str:
    """Why it would not be created; empty where it would.

    Raises:
        NotFound: the caller may not read the stack.
        OpaUnavailable: there is no answer to explain.
    """
    if outcome.failure is not None:
        if not isinstance(outcome.failure, EvaluationFailed):
            raise outcome.failure
        return outcome.failure.message
    assert outcome.decision is not None
    match outcome.decision.access.level:
        case AccessLevel.NONE:
            raise errors.NotFound("stack", stack.id)
        case AccessLevel.READ:
            return f"{principal.login} may read stack {stack.id!r}, not write to it"
        case AccessLevel.WRITE:
            pass
    if not outcome.decision.is_allowed:
        by = ", ".join(outcome.decision.denied_by)
        return f"denied by {by}: {'; '.join(outcome.decision.messages)}"
    try:
        require_not_locked_against(principal, stack)
    except StackLocked as error:
        return error.message
    return ""
