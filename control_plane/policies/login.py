"""Asks the login policies who may come in, and as what. Fails closed; an admin's key is never asked about, so that a
mistake in a policy locks nobody out for good."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial

import sqlalchemy as sa

from control_plane.audit import events
from control_plane.identity.api_key import ApiKey
from control_plane.identity.login import Login
from control_plane.identity.principal import Principal
from control_plane.policies import combine, inputs, records, shadow
from control_plane.policies.attached import AttachedPolicies, AttachmentIndex
from control_plane.policies.combine import Evaluation, Grant
from control_plane.policies.decisions import asked_of, said_by
from control_plane.policies.engine import PolicyEngine
from control_plane.policies.errors import EvaluationFailed, LoginDenied, OpaUnavailable, PoliciesChanged
from control_plane.policies.questions import Question
from control_plane.policies.records import DecisionRecord
from control_plane.policies.shadow import ShadowAsk
from control_plane.policies.tasks import request_of, session_of
from control_plane.storage.database import Database
from policies.workbench.kinds import Kind

_ATTEMPTS = 4


class LoginJudge:
    """The one place where login policies are asked. Every answer is stored, with its decision's id in the error."""

    def __init__(self, db: Database, engine: PolicyEngine, attached: AttachmentIndex) -> None:
        self._db = db
        self._engine = engine
        self._attached = attached

    async def judge(self, key: ApiKey, remote_ip: str) -> Login | None:
        """What policies make of the key; None where they have no say: it is an admin's, or there are none.

        Raises:
            LoginDenied: they refuse it.
            EvaluationFailed, OpaUnavailable, PoliciesChanged: no answer, so no.
        """
        if key.admin:
            return None
        principal = key.principal(remote_ip)
        for _ in range(_ATTEMPTS):
            index = await self._attached.current()
            if not index.login() and not index.login(shadow=True):
                return None
            try:
                answer = await self._ask(principal, index)
            except PoliciesChanged:
                continue
            if not await self._db.write(partial(_record, principal, answer)):
                continue
            if answer.failure is not None:
                raise answer.failure.recorded_as(answer.record.id)
            if not answer.grant.is_allowed:
                raise LoginDenied(answer.record.id)
            if not answer.counts:
                return None
            teams = key.teams if answer.grant.teams is None else answer.grant.teams
            return Login(tuple(teams), answer.grant.admin, answer.record.id)
        raise PoliciesChanged("login policies")

    async def would(self, principal: Principal) -> LoginAnswer:
        """What they would say of a key that is no admin's; nothing is stored.

        Raises:
            PoliciesChanged: again and again.
        """
        for _ in range(_ATTEMPTS):
            index = await self._attached.current()
            try:
                return await self._ask(principal, index)
            except PoliciesChanged:
                continue
        raise PoliciesChanged("login policies")

    async def _ask(self, principal: Principal, index: AttachedPolicies) -> LoginAnswer:
        started = time.perf_counter_ns()
        document = inputs.login_input(request_of(principal), session_of(principal))
        policies = index.login()
        shadows = ShadowAsk(self._engine, shadow.questions(Kind.LOGIN, document, index.login(shadow=True)))
        said: list[Evaluation] = []
        failure: EvaluationFailed | OpaUnavailable | None = None
        # Without a policy that counts, a key that is in force is let in as it is.
        grant = Grant(is_allowed=not policies)
        try:
            [said] = await self._engine.ask([Question(Kind.LOGIN, document, policies)])
            if policies:
                grant = combine.login(said)
        except (EvaluationFailed, OpaUnavailable) as error:
            failure = error
        except BaseException:
            shadows.drop()
            raise
        took_us = (time.perf_counter_ns() - started) // 1000
        was = ("admin" if grant.admin else "allowed") if grant.is_allowed else "denied"
        result = {"outcome": was, "teams": None if grant.teams is None else list(grant.teams)}
        record = DecisionRecord(
            kind=Kind.LOGIN.value,
            stack_id="",
            caller_login=principal.login,
            is_allowed=failure is None and grant.is_allowed,
            document=document,
            policies=said_by(Kind.LOGIN, said) if failure is None else asked_of(Kind.LOGIN, policies),
            result=result if failure is None else {"outcome": "failed", "failure": failure.cause},
            took_us=took_us,
            is_sample=any(each.is_sample for each in said),
            shadow=await shadows.said(None if failure else {Kind.LOGIN: said}, was=was),
        )
        return LoginAnswer(grant, failure, record, bool(policies), index.version)


@dataclass(frozen=True)
class LoginAnswer:
    """What login policies say of a key, and its record; `grant` counts for nothing where there is a `failure`."""

    grant: Grant
    failure: EvaluationFailed | OpaUnavailable | None
    record: DecisionRecord
    # A policy that is not in shadow mode was asked.
    counts: bool
    policies_version: int


def _record(principal: Principal, answer: LoginAnswer, tx: sa.Connection) -> bool:
    """False where the policies are others by now: ask again. A failure refuses in any case, and may itself have changed
    what is noted of a policy."""
    if answer.failure is None and records.policies_version(tx) != answer.policies_version:
        return False
    records.insert(tx, answer.record)
    if not answer.record.is_allowed:
        events.record(
            tx, principal, "login.denied", "api_key", principal.id,
            details={"decision_id": answer.record.id, "outcome": answer.record.result["outcome"]},
        )  # fmt: skip
    return True
