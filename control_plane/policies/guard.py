"""Asks the policies before anything is read or done. Fails closed: no answer is a no that says why."""

from __future__ import annotations

import time
from collections.abc import Sequence

import sqlalchemy as sa

from control_plane import errors
from control_plane.audit import events
from control_plane.identity.principal import Principal
from control_plane.policies import inputs, records
from control_plane.policies.attached import AttachedPolicies, AttachmentIndex
from control_plane.policies.combine import AccessLevel, PolicyRef
from control_plane.policies.decisions import TaskDecision, asked_of
from control_plane.policies.engine import PolicyEngine
from control_plane.policies.errors import EvaluationFailed, OpaUnavailable, PoliciesChanged, TaskDenied
from control_plane.policies.records import DecisionRecord, Judgement
from control_plane.policies.stack_input import to_stack_info
from control_plane.stacks.snapshot import StackSnapshot
from control_plane.storage.database import Database
from policies.workbench.kinds import Kind

_ATTEMPTS = 4


class PolicyGuard:
    """The one place where access and task policies are asked."""

    def __init__(self, db: Database, engine: PolicyEngine, attached: AttachmentIndex) -> None:
        self._db = db
        self._engine = engine
        self._attached = attached

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
                    _request(principal), session_of(principal), asked
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
        index = await self._attached.as_of(policies_version)
        for _ in range(_ATTEMPTS):
            started = time.perf_counter_ns()
            request = _request(principal)
            task_policies = _refs(index, stack, Kind.TASK)
            try:
                decision = await self._engine.decide_task(
                    request,
                    session_of(principal),
                    to_stack_info(stack),
                    command,
                    access=_refs(index, stack, Kind.ACCESS),
                    task=task_policies,
                )
            except PoliciesChanged:
                index = await self._attached.current()
                continue
            except (EvaluationFailed, OpaUnavailable) as error:
                record = _failure_record(principal, stack, request, command, task_policies, error)
                await self._refuse(principal, record, str(error))
                if isinstance(error, EvaluationFailed):
                    raise error.recorded_as(record.id) from error
                raise
            record = _record(principal, stack, decision, (time.perf_counter_ns() - started) // 1000)
            try:
                _require_write(decision.access.level, principal, stack)
            except errors.DomainError as error:
                await self._refuse(principal, record, str(error))
                raise
            if not decision.is_allowed:
                await self._refuse(principal, record, "; ".join(decision.messages))
                raise TaskDenied(decision.messages, decision.denied_by, record.id)
            return Judgement(record, index.version, needs_approval=bool(_refs(index, stack, Kind.APPROVAL)))
        raise PoliciesChanged(stack.id)

    async def _level(self, principal: Principal, stack: StackSnapshot) -> AccessLevel:
        if principal.admin:
            return AccessLevel.WRITE
        for _ in range(_ATTEMPTS):
            index = await self._attached.current()
            try:
                decision = await self._engine.decide_access(
                    _request(principal),
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


def _require_write(level: AccessLevel, principal: Principal, stack: StackSnapshot) -> None:
    if level is AccessLevel.NONE:
        raise errors.NotFound("stack", stack.id)
    if level is not AccessLevel.WRITE:
        raise errors.NotAllowed(f"{principal.login} may read stack {stack.id!r}, not write to it")


def _refs(index: AttachedPolicies, stack: StackSnapshot, kind: Kind) -> list[PolicyRef]:
    return index.refs(stack.id, stack.labels, kind)


def _request(principal: Principal) -> inputs.RequestInfo:
    return inputs.RequestInfo(remote_ip=principal.remote_ip, timestamp_ns=time.time_ns())


def session_of(principal: Principal) -> inputs.SessionInfo:
    """A caller as policies see it."""
    return inputs.SessionInfo(
        login=principal.login,
        name=principal.name,
        admin=principal.admin,
        teams=principal.teams,
        machine=principal.machine,
        creator_ip=principal.remote_ip,
    )


def _record(
    principal: Principal, stack: StackSnapshot, decision: TaskDecision, took_us: int
) -> DecisionRecord:
    stored = decision.record()
    return DecisionRecord(
        kind=Kind.TASK.value,
        stack_id=stack.id,
        caller_login=principal.login,
        is_allowed=decision.is_allowed,
        document=stored.pop("input"),
        policies=stored.pop("policies"),
        result=stored,
        took_us=took_us,
    )


def _failure_record(
    principal: Principal,
    stack: StackSnapshot,
    request: inputs.RequestInfo,
    command: str,
    policies: Sequence[PolicyRef],
    error: EvaluationFailed | OpaUnavailable,
) -> DecisionRecord:
    return DecisionRecord(
        kind=Kind.TASK.value,
        stack_id=stack.id,
        caller_login=principal.login,
        is_allowed=False,
        document=inputs.task_input(request, session_of(principal), to_stack_info(stack), command),
        policies=asked_of(Kind.TASK, policies),
        result={"allowed": False, "failure": error.cause},
        took_us=(time.time_ns() - request.timestamp_ns) // 1000,
    )
