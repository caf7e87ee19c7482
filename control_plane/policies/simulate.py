"""What a text that is not stored would say now, of an input as a real decision's, alone and with the policies in force.
Nothing is written."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

import sqlalchemy as sa

from control_plane import errors
from control_plane.identity import lookup
from control_plane.identity.principal import Principal
from control_plane.policies import candidate, inputs, records, retrial
from control_plane.policies.access_asked import AccessJudge
from control_plane.policies.approval import ApprovalVerdict
from control_plane.policies.candidate import Candidate
from control_plane.policies.decision_messages import explained
from control_plane.policies.decisions import said_by
from control_plane.policies.engine import PolicyEngine
from control_plane.policies.errors import EvaluationFailed, LoginDenied, OpaUnavailable
from control_plane.policies.inputs import Document
from control_plane.policies.login import LoginJudge
from control_plane.policies.records import DecisionRecord
from control_plane.policies.retrial import FAILED, Part, Said
from control_plane.policies.stack_input import to_stack_info
from control_plane.policies.tasks import TaskJudge, request_of, session_of
from control_plane.policies.trial import Answer
from control_plane.stacks import snapshot
from control_plane.stacks.access import Access
from control_plane.stacks.secrets import StackSecrets
from control_plane.stacks.snapshot import StackSnapshot
from control_plane.storage.database import Database
from interlock.v1 import backtest_pb2, decision_pb2, policy_pb2
from interlock.v1 import policy_service_pb2 as rpc
from policies.workbench.kinds import Kind
from policies.workbench.prints import Print

# Each may start an OPA, and anybody who may read a stack may ask.
_AT_ONCE: Final = 2


class ApprovalsAsked(Protocol):
    """What approval policies say now; runs know how to ask."""

    async def of_task(self, principal: Principal, stack: StackSnapshot, command: str) -> ApprovalVerdict: ...

    async def of_run(self, run_id: str) -> ApprovalVerdict: ...

    async def stack_of(self, run_id: str) -> str: ...


@dataclass(frozen=True)
class Judges:
    """Who asks the policies in force, of each kind."""

    tasks: TaskJudge
    access: AccessJudge
    approvals: ApprovalsAsked
    logins: LoginJudge


@dataclass(frozen=True)
class _Now:
    """What the policies in force decide. `document` is what they see, with secrets; `part` is None where policies of
    the kind have no say."""

    record: DecisionRecord
    document: Document
    part: Part | None


class Simulations:
    """One per control plane. Two at once are under way, others wait."""

    def __init__(
        self, db: Database, engine: PolicyEngine, access: Access, secrets: StackSecrets, judges: Judges
    ) -> None:
        self._db = db
        self._engine = engine
        self._access = access
        self._secrets = secrets
        self._judges = judges
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def of(self, principal: Principal, request: rpc.SimulatePolicyRequest) -> backtest_pb2.Simulation:
        """As PolicyService.SimulatePolicy says."""
        kind = await candidate.kind_asked_for(self._db, self._engine, request)
        if kind is Kind.LOGIN or request.as_login or request.remote_ip:
            principal.require_admin("simulate logins, or what somebody else may do")
        stack = await self._stack(principal, kind, request)
        async with self._turns:
            return await self._of(principal, kind, request, stack)

    async def _of(
        self,
        principal: Principal,
        kind: Kind,
        request: rpc.SimulatePolicyRequest,
        stack: StackSnapshot | None,
    ) -> backtest_pb2.Simulation:
        tried = await candidate.checked(self._engine, kind, request)
        whose = await self._whose(principal, kind, request)
        now = await self._now(whose, kind, request, stack)
        async with tried.opened(self._engine) as trial:
            [answer] = await trial.answers([json.dumps(now.document, ensure_ascii=False)])
        prints = await self._engine.prints(kind, tried.policy.text, now.document)
        checksums = await self._secrets.checksums(stack.id) if stack else {}
        return _simulation(tried, now, answer, prints, checksums)

    async def _stack(
        self, principal: Principal, kind: Kind, request: rpc.SimulatePolicyRequest
    ) -> StackSnapshot | None:
        """The one that it is about, which the caller may read; None for logins."""
        if kind is Kind.LOGIN:
            return None
        if request.run_id and kind is not Kind.APPROVAL:
            raise errors.InvalidField("run_id", f"is for kind approval; this is {kind.value}")
        stack_id = request.stack_id
        if request.run_id:
            stack_id = await self._judges.approvals.stack_of(request.run_id)
        if not stack_id:
            raise errors.InvalidField("stack_id", f"is needed for kind {kind.value}")
        if not request.command and (kind is Kind.TASK or (kind is Kind.APPROVAL and not request.run_id)):
            raise errors.InvalidField("command", f"is needed for kind {kind.value}")
        return await self._access.readable(principal, stack_id)

    async def _whose(self, principal: Principal, kind: Kind, request: rpc.SimulatePolicyRequest) -> Principal:
        """Whose call it would be, with what login policies would make of them."""
        remote_ip = request.remote_ip or principal.remote_ip
        if not request.as_login:
            return replace(principal, remote_ip=remote_ip, creator_ip=remote_ip)
        key = await lookup.key_of(self._db, request.as_login)
        whose = key.principal(remote_ip)
        if kind is Kind.LOGIN or key.admin:
            return whose
        answer = await self._judges.logins.would(whose)
        if answer.failure is not None:
            raise answer.failure
        if not answer.grant.is_allowed:
            raise LoginDenied("")
        if not answer.counts:
            return whose
        teams = key.teams if answer.grant.teams is None else answer.grant.teams
        return replace(whose, teams=tuple(teams), admin=answer.grant.admin)

    async def _now(
        self,
        whose: Principal,
        kind: Kind,
        request: rpc.SimulatePolicyRequest,
        stack: StackSnapshot | None,
    ) -> _Now:
        if stack is None:
            return await self._login(whose, request.replaces_policy_id)
        if kind is Kind.TASK:
            record, document = await self._task(whose, stack, request.command)
        elif kind is Kind.ACCESS:
            record, document = await self._judges.access.judge(whose, stack)
        else:
            verdict = await self._approval(whose, stack, request)
            record, document = verdict.record, verdict.document
        part = retrial.part_of(kind, record.policies, record.result, replaces=request.replaces_policy_id)
        return _Now(record, document, part)

    async def _task(
        self, whose: Principal, stack: StackSnapshot, command: str
    ) -> tuple[DecisionRecord, Document]:
        now, version = await self._db.read(lambda tx: _as_of(tx, stack.id))
        outcome = await self._judges.tasks.judge(whose, now, command, policies_version=version)
        if isinstance(outcome.failure, OpaUnavailable):
            raise outcome.failure
        if outcome.decision is not None:
            return outcome.record, outcome.decision.document
        seen = inputs.task_input(request_of(whose), session_of(whose), to_stack_info(now), command)
        return outcome.record, seen

    async def _approval(
        self, whose: Principal, stack: StackSnapshot, request: rpc.SimulatePolicyRequest
    ) -> ApprovalVerdict:
        if request.run_id:
            return await self._judges.approvals.of_run(request.run_id)
        return await self._judges.approvals.of_task(whose, stack, request.command)

    async def _login(self, whose: Principal, replaces: str) -> _Now:
        answer = await self._judges.logins.would(whose)
        if isinstance(answer.failure, OpaUnavailable):
            raise answer.failure
        record = answer.record
        if whose.admin:  # an admin's key is not asked about
            record = replace(record, is_allowed=True, policies=[], result={"outcome": "admin"})
            return _Now(record, dict(record.document), None)
        part = retrial.part_of(Kind.LOGIN, record.policies, record.result, replaces=replaces)
        return _Now(record, dict(record.document), part)


def _as_of(tx: sa.Connection, stack_id: str) -> tuple[StackSnapshot, int]:
    return snapshot.load(tx, stack_id), records.policies_version(tx)


def _simulation(
    tried: Candidate, now: _Now, answer: Answer, prints: list[Print], checksums: Mapping[str, str]
) -> backtest_pb2.Simulation:
    decision = explained(now.record.sanitized(checksums))
    by_itself = retrial.alone(tried.kind, answer.said)
    was = now.part.outcome if now.part else decision.outcome
    return backtest_pb2.Simulation(
        kind=policy_pb2.PolicyKind.Value(f"POLICY_KIND_{tried.kind.name}"),
        alone=FAILED if isinstance(by_itself, EvaluationFailed) else by_itself,
        now=was,
        together=retrial.retry(now.part, answer.said).would_be if now.part else was,
        messages=records.without_secrets(_messages(answer.said, by_itself), checksums),
        results_json=_results(tried.kind, answer.said, checksums),
        prints=[
            decision_pb2.PolicyPrint(line=each.line, text=records.without_secrets(each.text, checksums))
            for each in prints
        ],
        decision=decision,
        evaluation_us=answer.took_us,
    )


def _messages(said: Said, by_itself: str | EvaluationFailed) -> list[str]:
    if isinstance(by_itself, EvaluationFailed):
        return [by_itself.cause]
    assert not isinstance(said, EvaluationFailed)
    deny = said.rules.get("deny")
    return sorted(deny.value) if deny is not None and deny.type == "set" else []


def _results(kind: Kind, said: Said, checksums: Mapping[str, str]) -> str:
    if isinstance(said, EvaluationFailed):
        return ""
    [entry] = said_by(kind, [said])
    results: Any = records.without_secrets(entry["results"], checksums)
    return json.dumps(results, ensure_ascii=False)
