"""Asks the policies before anything is read or done. Fails closed: no answer is a no that says why."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from control_plane import errors
from control_plane.audit import events
from control_plane.identity.principal import Principal
from control_plane.policies import records
from control_plane.policies.attached import AttachedPolicies, AttachmentIndex
from control_plane.policies.combine import AccessLevel, PolicyRef
from control_plane.policies.engine import PolicyEngine
from control_plane.policies.errors import PoliciesChanged, TaskDenied
from control_plane.policies.records import DecisionRecord, Judgement
from control_plane.policies.stack_input import to_stack_info
from control_plane.policies.tasks import TaskJudge, request_of, session_of
from control_plane.stacks.snapshot import StackSnapshot
from control_plane.storage.database import Database
from interlock.v1 import errors_pb2
from policies.workbench.kinds import Kind

_ATTEMPTS = 4


class PolicyGuard:
    """The one place where access and task policies are asked."""

    def __init__(
        self, db: Database, engine: PolicyEngine, attached: AttachmentIndex, tasks: TaskJudge
    ) -> None:
        self._db = db
        self._engine = engine
        self._attached = attached
        self._tasks = tasks

    async def require_read(self, principal: Principal, stack: StackSnapshot) -> None:
        """Raises NotFound where the principal may not read the stack; EvaluationFailed, OpaUnavailable: so too."""
        if await self._level(principal, stack) is AccessLevel.NONE:
            raise errors.NotFound("stack", stack.id)

    async def require_write(self, principal: Principal, stack: StackSnapshot) -> None:
        """As `require_read`; raises NotAllowed where the principal may only read."""
        _require_write(await self._level(principal, stack), principal, stack)

    async def readable(self, principal: Principal, stacks: Sequence[StackSnapshot]) -> list[bool]:
        """For each stack whether the principal may read it. A stack whose policies fail is hidden."""
        if principal.admin or not stacks:
            return [True] * len(stacks)
        for _ in range(_ATTEMPTS):
            index = await self._attached.current()
            asked = [(to_stack_info(stack), _refs(index, stack, Kind.ACCESS)) for stack in stacks]
            try:
                decisions = await self._engine.decide_access_to_all(
                    request_of(principal), session_of(principal), asked
                )
            except PoliciesChanged:
                continue
            return [decision.level is not AccessLevel.NONE for decision in decisions]
        raise PoliciesChanged(stacks[0].id)

    async def judge_task(
        self, principal: Principal, stack: StackSnapshot, command: str, *, policies_version: int
    ) -> Judgement:
        """Access and task policies in one query. Returns where they allow the task; a no is recorded with its decision.

        Raises:
            NotFound, NotAllowed: access policies.
            TaskDenied: task policies.
            EvaluationFailed, OpaUnavailable, PoliciesChanged: no answer, so no.
        """
        outcome = await self._tasks.judge(principal, stack, command, policies_version=policies_version)
        record, failure, decision = outcome.record, outcome.failure, outcome.decision
        if failure is not None:
            await self._refuse(principal, record, str(failure))
            raise failure.recorded_as(record.id) from failure
        assert decision is not None
        try:
            _require_write(decision.access.level, principal, stack, decision_id=record.id)
        except errors.DomainError as error:
            await self._refuse(principal, record, str(error))
            raise
        if not decision.is_allowed:
            await self._refuse(principal, record, "; ".join(record.result["messages"]))
            raise TaskDenied(decision.messages, decision.denied_by, record.id)
        return Judgement(record, outcome.policies_version, needs_approval=outcome.needs_approval)

    async def _level(self, principal: Principal, stack: StackSnapshot) -> AccessLevel:
        if principal.admin:
            return AccessLevel.WRITE
        for _ in range(_ATTEMPTS):
            index = await self._attached.current()
            try:
                decision = await self._engine.decide_access(
                    request_of(principal),
                    session_of(principal),
                    to_stack_info(stack),
                    _refs(index, stack, Kind.ACCESS),
                )
            except PoliciesChanged:
                continue
            return decision.level
        raise PoliciesChanged(stack.id)

    async def _refuse(self, principal: Principal, record: DecisionRecord, why: str) -> None:
        def unit(connection: sa.Connection) -> None:
            records.insert(connection, record)
            events.record(
                connection, principal, "task.denied", "stack", record.stack_id, stack_id=record.stack_id,
                details={"decision_id": record.id, "command": record.document["request"]["command"], "reason": why},
            )  # fmt: skip

        await self._db.write(unit)


def _require_write(
    level: AccessLevel, principal: Principal, stack: StackSnapshot, *, decision_id: str = ""
) -> None:
    if level is AccessLevel.NONE:
        raise errors.NotFound("stack", stack.id)
    if level is not AccessLevel.WRITE:
        raise errors.NotAllowed(
            f"{principal.login} may read stack {stack.id!r}, not write to it",
            details=[errors_pb2.DecisionLink(decision_id=decision_id)] if decision_id else [],
        )


def _refs(index: AttachedPolicies, stack: StackSnapshot, kind: Kind) -> list[PolicyRef]:
    return index.refs(stack.id, stack.labels, kind)
