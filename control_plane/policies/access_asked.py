"""What access policies say of a caller and a stack, as a decision that is shown and not stored."""

from __future__ import annotations

import time

from control_plane.identity.principal import Principal
from control_plane.policies import inputs
from control_plane.policies.attached import AttachmentIndex
from control_plane.policies.decisions import asked_of, said_by
from control_plane.policies.engine import PolicyEngine
from control_plane.policies.errors import EvaluationFailed, PoliciesChanged
from control_plane.policies.inputs import Document
from control_plane.policies.records import DecisionRecord
from control_plane.policies.stack_input import to_stack_info
from control_plane.policies.tasks import request_of, session_of
from control_plane.stacks.snapshot import StackSnapshot
from policies.workbench.kinds import Kind

_ATTEMPTS = 4


class AccessJudge:
    """Evaluates and records nothing: of access alone there is no record."""

    def __init__(self, engine: PolicyEngine, attached: AttachmentIndex) -> None:
        self._engine = engine
        self._attached = attached

    async def judge(self, principal: Principal, stack: StackSnapshot) -> tuple[DecisionRecord, Document]:
        """The record that it would have, and what the policies see.

        Raises:
            OpaUnavailable: no answer.
            PoliciesChanged: again and again.
        """
        for _ in range(_ATTEMPTS):
            try:
                return await self._judge(principal, stack)
            except PoliciesChanged:
                continue
        raise PoliciesChanged(stack.id)

    async def _judge(self, principal: Principal, stack: StackSnapshot) -> tuple[DecisionRecord, Document]:
        started = time.perf_counter_ns()
        request, session, info = request_of(principal), session_of(principal), to_stack_info(stack)
        index = await self._attached.current()
        refs = index.refs(stack.id, stack.labels, Kind.ACCESS)
        try:
            decision = await self._engine.decide_access(request, session, info, refs)
        except EvaluationFailed as failure:
            document = inputs.access_input(request, session, info)
            said = asked_of(Kind.ACCESS, refs)
            result = {"outcome": "failed", "failure": failure.cause}
        else:
            document = decision.document
            said = said_by(Kind.ACCESS, decision.evaluations)
            level = decision.level.name.lower()
            result = {"outcome": level, "access": level}
        record = DecisionRecord(
            kind=Kind.ACCESS.value,
            stack_id=stack.id,
            caller_login=principal.login,
            is_allowed=result["outcome"] in ("read", "write"),
            document=document,
            policies=said,
            result=result,
            took_us=(time.perf_counter_ns() - started) // 1000,
        )
        return record, document
