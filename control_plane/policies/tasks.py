"""Asks access and task policies whether a command may run, and keeps all that was asked and said."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from control_plane.identity.principal import Principal
from control_plane.policies import inputs, shadow
from control_plane.policies.attached import AttachedPolicies, AttachmentIndex
from control_plane.policies.combine import PolicyRef
from control_plane.policies.decisions import TaskDecision, asked_of
from control_plane.policies.engine import PolicyEngine
from control_plane.policies.errors import EvaluationFailed, OpaUnavailable, PoliciesChanged
from control_plane.policies.records import DecisionRecord
from control_plane.policies.shadow import ShadowAsk
from control_plane.policies.stack_input import to_stack_info
from control_plane.stacks.secrets import StackSecrets
from control_plane.stacks.snapshot import StackSnapshot
from policies.workbench.kinds import Kind

_ATTEMPTS = 4


@dataclass(frozen=True)
class TaskOutcome:
    """A decision or the failure to make one; its record; the version of all policies that it stands for."""

    decision: TaskDecision | None
    failure: EvaluationFailed | OpaUnavailable | None
    record: DecisionRecord
    policies_version: int
    # Approval policies apply to what is created.
    needs_approval: bool


class TaskJudge:
    """Evaluates and records nothing."""

    def __init__(self, engine: PolicyEngine, attached: AttachmentIndex, secrets: StackSecrets) -> None:
        self._engine = engine
        self._attached = attached
        self._secrets = secrets

    async def judge(
        self, principal: Principal, stack: StackSnapshot, command: str, *, policies_version: int
    ) -> TaskOutcome:
        """`policies_version` is that of the moment when the stack was read.

        Raises:
            PoliciesChanged: again and again.
        """
        index = await self._attached.as_of(policies_version)
        for _ in range(_ATTEMPTS):
            try:
                return await self._judge(principal, stack, command, index)
            except PoliciesChanged:
                index = await self._attached.current()
        raise PoliciesChanged(stack.id)

    async def _judge(
        self, principal: Principal, stack: StackSnapshot, command: str, index: AttachedPolicies
    ) -> TaskOutcome:
        started = time.perf_counter_ns()
        request, session, info = request_of(principal), session_of(principal), to_stack_info(stack)
        access, task = _refs(index, stack, Kind.ACCESS), _refs(index, stack, Kind.TASK)
        document = inputs.task_input(request, session, info, command)
        shadows = ShadowAsk(
            self._engine,
            [
                *shadow.questions(Kind.TASK, document, _refs(index, stack, Kind.TASK, shadow=True)),
                *(
                    []
                    if principal.admin
                    else shadow.questions(
                        Kind.ACCESS,
                        inputs.access_input(request, session, info),
                        _refs(index, stack, Kind.ACCESS, shadow=True),
                    )
                ),
            ],
        )
        decision, failure = None, None
        try:
            decision = await self._engine.decide_task(
                request, session, info, command, access=access, task=task
            )
        except (EvaluationFailed, OpaUnavailable) as error:
            failure = error
        except BaseException:
            shadows.drop()
            raise
        took_us = (time.perf_counter_ns() - started) // 1000
        counted = None
        if decision is not None:
            counted = {Kind.ACCESS: decision.access.evaluations, Kind.TASK: decision.evaluations}
            stored = decision.record()
            said = stored.pop("policies")
            del stored["input"]
        else:
            assert failure is not None
            stored = {"allowed": False, "failure": failure.cause}
            said = [*asked_of(Kind.ACCESS, access), *asked_of(Kind.TASK, task)]
        record = DecisionRecord(
            kind=Kind.TASK.value,
            stack_id=stack.id,
            caller_login=principal.login,
            is_allowed=decision is not None and decision.is_allowed,
            document=document if decision is None else decision.document,
            policies=said,
            result=stored,
            took_us=took_us,
            is_sample=decision is not None and decision.is_sample,
            shadow=await shadows.said(counted),
        )
        record = record.sanitized(await self._secrets.checksums(stack.id))
        needs_approval = bool(_refs(index, stack, Kind.APPROVAL))
        return TaskOutcome(decision, failure, record, index.version, needs_approval)


def request_of(principal: Principal) -> inputs.RequestInfo:
    """A call as policies see it."""
    return inputs.RequestInfo(remote_ip=principal.remote_ip, timestamp_ns=time.time_ns())


def session_of(principal: Principal) -> inputs.SessionInfo:
    """A caller as policies see it."""
    return inputs.SessionInfo(
        login=principal.login,
        name=principal.name,
        admin=principal.admin,
        teams=principal.teams,
        machine=principal.machine,
        creator_ip=principal.creator_ip or principal.remote_ip,
    )


def stored_session(principal: Principal) -> dict[str, object]:
    """`session_of` as JSON, to be an input again later."""
    return {**vars(session_of(principal)), "teams": list(principal.teams)}


def _refs(
    index: AttachedPolicies, stack: StackSnapshot, kind: Kind, *, shadow: bool = False
) -> Sequence[PolicyRef]:
    return index.refs(stack.id, stack.labels, kind, shadow=shadow)
