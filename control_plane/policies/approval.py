"""Asks the approval policies about a run. Fails closed: what cannot be evaluated approves nothing and rejects nothing."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from control_plane.policies import combine, inputs, shadow
from control_plane.policies.attached import AttachedPolicies, AttachmentIndex
from control_plane.policies.combine import Approval, Evaluation, PolicyRef
from control_plane.policies.decisions import asked_of, said_by
from control_plane.policies.engine import PolicyEngine
from control_plane.policies.errors import EvaluationFailed, PoliciesChanged
from control_plane.policies.inputs import Document, ReviewInfo, RunInfo
from control_plane.policies.questions import Question
from control_plane.policies.records import DecisionRecord
from control_plane.policies.shadow import ShadowAsk
from control_plane.policies.stack_input import to_stack_info
from control_plane.stacks.secrets import StackSecrets
from control_plane.stacks.snapshot import StackSnapshot
from policies.workbench.kinds import Kind

_ATTEMPTS = 4


@dataclass(frozen=True)
class ApprovalVerdict:
    """What the policies say, in one sentence too, and the version of all policies that it stands for."""

    outcome: Approval
    reason: str
    judged_by: Sequence[PolicyRef]
    policies_version: int
    record: DecisionRecord
    # What the policies saw; the record has it without secrets.
    document: Document

    @property
    def is_failure(self) -> bool:
        """A policy could not be evaluated: nothing was judged."""
        return "failure" in self.record.result


class ApprovalJudge:
    """The one place where approval policies are asked."""

    def __init__(self, engine: PolicyEngine, attached: AttachmentIndex, secrets: StackSecrets) -> None:
        self._engine = engine
        self._attached = attached
        self._secrets = secrets

    async def policies_of(self, stack: StackSnapshot) -> tuple[list[PolicyRef], int]:
        """The approval policies that apply to a stack now, and the version of all policies."""
        index = await self._attached.current()
        return _refs(index, stack), index.version

    async def judge(
        self,
        run: RunInfo,
        stack: StackSnapshot,
        current: Sequence[ReviewInfo],
        older: Sequence[ReviewInfo],
        *,
        caller_login: str,
    ) -> ApprovalVerdict:
        """A policy that fails leaves the run undecided, and the verdict says which and why.

        Raises:
            OpaUnavailable, PoliciesChanged: no answer; ask again later.
        """
        info = to_stack_info(stack)
        if run.commit.hash and run.branch == stack.git_ref:
            info = replace(info, tracked_commit=run.commit)
        document = inputs.approval_input(run, info, current, older)
        for _ in range(_ATTEMPTS):
            index = await self._attached.current()
            try:
                verdict = await self._judge(stack, document, index, caller_login)
            except PoliciesChanged:
                continue
            secrets = await self._secrets.checksums(stack.id)
            return replace(verdict, record=verdict.record.sanitized(secrets))
        raise PoliciesChanged(stack.id)

    async def _judge(
        self, stack: StackSnapshot, document: Document, index: AttachedPolicies, caller_login: str
    ) -> ApprovalVerdict:
        started = time.perf_counter_ns()
        refs = _refs(index, stack)
        in_shadow = index.refs(stack.id, stack.labels, Kind.APPROVAL, shadow=True)
        shadows = ShadowAsk(self._engine, shadow.questions(Kind.APPROVAL, document, in_shadow))
        said: list[Evaluation] = []
        failure = ""
        try:
            [said] = await self._engine.ask([Question(Kind.APPROVAL, document, refs)])
            outcome = combine.approval(said)
            reason = _reason(outcome, said)
        except EvaluationFailed as error:
            outcome, reason, failure = Approval.UNDECIDED, str(error), error.cause
        except BaseException:
            shadows.drop()
            raise
        took_us = (time.perf_counter_ns() - started) // 1000
        result = {"outcome": outcome.value, "reason": reason}
        record = DecisionRecord(
            kind=Kind.APPROVAL.value,
            stack_id=stack.id,
            caller_login=caller_login,
            is_allowed=outcome is Approval.APPROVED,
            document=document,
            policies=asked_of(Kind.APPROVAL, refs) if failure else said_by(Kind.APPROVAL, said),
            result={**result, "failure": failure} if failure else result,
            took_us=took_us,
            is_sample=any(each.is_sample for each in said),
            shadow=await shadows.said(None if failure else {Kind.APPROVAL: said}),
        )
        return ApprovalVerdict(outcome, reason, refs, index.version, record, document)


def _refs(index: AttachedPolicies, stack: StackSnapshot) -> list[PolicyRef]:
    return index.refs(stack.id, stack.labels, Kind.APPROVAL)


def _reason(outcome: Approval, said: Sequence[Evaluation]) -> str:
    match outcome:
        case Approval.APPROVED:
            return f"approved by {_names([each.policy for each in said])}" if said else "needs no approval"
        case Approval.REJECTED:
            return f"rejected by {_names(combine.rejecting(said))}"
        case Approval.UNDECIDED:
            return f"waits for the approval of {_names(combine.undecided(said))}"


def _names(policies: Sequence[PolicyRef]) -> str:
    """As in `policy two eyes (revision 3)`."""
    named = ", ".join(f"{policy.name} (revision {policy.revision})" for policy in policies)
    return f"{'policy' if len(policies) == 1 else 'policies'} {named}"
