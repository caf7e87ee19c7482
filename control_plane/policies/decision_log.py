"""Decisions as they were stored: found again, by whoever may read what they are about."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import sqlalchemy as sa

from control_plane import clock, errors
from control_plane.identity.principal import Principal
from control_plane.ids import first_id
from control_plane.paging import DEFAULT_PAGE_SIZE, MAX_PAGE_BYTES, PageTokens
from control_plane.policies import retrial, revisions
from control_plane.policies.decision_messages import to_decision
from control_plane.policies.engine import PolicyEngine
from control_plane.policies.messages import kind_of
from control_plane.stacks import snapshot
from control_plane.stacks.access import Guard
from control_plane.storage.database import Database
from control_plane.storage.tables import decisions
from interlock.v1 import decision_pb2
from interlock.v1 import decision_service_pb2 as rpc
from policies.workbench.kinds import Kind

# How many rows are looked at for one page before a short page is returned.
_MAX_SCANNED_PAGES = 20

_FIND = sa.select(decisions).where(decisions.c.id == sa.bindparam("decision_id"))


class DecisionLog:
    """Decisions about a stack are read by whoever may read the stack, logins by admins."""

    def __init__(self, db: Database, engine: PolicyEngine, guard: Guard, pages: PageTokens) -> None:
        self._db = db
        self._engine = engine
        self._guard = guard
        self._pages = pages

    async def get(self, principal: Principal, decision_id: str) -> decision_pb2.Decision:
        """Raises NotFound where there is none or the caller may not read it."""
        row = await self._db.read(lambda tx: tx.execute(_FIND, {"decision_id": decision_id}).one_or_none())
        if row is None or not (await self.readable(principal, [row]))[0]:
            raise errors.NotFound("decision", decision_id)
        decision = to_decision(row, whole=True)
        decision.prints.extend(await self._prints(row))
        return decision

    async def _prints(self, row: sa.Row[Any]) -> list[decision_pb2.PolicyPrint]:
        """Input and revisions are stored, and policies have no clock: evaluated again they print the same."""
        found: list[decision_pb2.PolicyPrint] = []
        for said in [*json.loads(row.policies), *json.loads(row.shadow)]:
            revision = await self._db.read(partial(_revision, said["id"], said["revision"]))
            if revision is None:
                continue
            kind = Kind(said["kind"])
            seen = json.loads(retrial.input_for(kind, row.input))
            printed = await self._engine.prints(kind, revision.body, seen)
            found += [
                decision_pb2.PolicyPrint(policy_id=said["id"], line=each.line, text=each.text)
                for each in printed
            ]
        return found

    async def readable(self, principal: Principal, rows: Sequence[sa.Row[Any]]) -> list[bool]:
        """For each decision, whether the caller may read it."""
        if principal.admin:
            return [True] * len(rows)
        stack_ids = sorted({row.stack_id for row in rows if row.stack_id})
        stacks = await self._db.read(lambda tx: [snapshot.load_any(tx, each) for each in stack_ids])
        answers = dict(zip(stack_ids, await self._guard.readable(principal, stacks), strict=True))
        return [answers.get(row.stack_id, False) for row in rows]

    async def list(
        self, principal: Principal, request: rpc.ListDecisionsRequest
    ) -> rpc.ListDecisionsResponse:
        """One page, newest first."""
        before_id = self._pages.decode(request)
        wanted = request.page_size or DEFAULT_PAGE_SIZE
        filters = _filters(request)
        found: list[decision_pb2.Decision] = []
        size_bytes = 0
        for _ in range(_MAX_SCANNED_PAGES):
            rows = await self._db.read(partial(_page, filters, before_id, wanted))
            for row, may_read in zip(rows, await self.readable(principal, rows), strict=True):
                before_id = row.id
                if may_read:
                    found.append(to_decision(row, whole=request.whole))
                    size_bytes += found[-1].ByteSize()
                if len(found) == wanted or size_bytes >= MAX_PAGE_BYTES:
                    token = self._pages.encode(request, before_id)
                    return rpc.ListDecisionsResponse(decisions=found, next_page_token=token)
            if len(rows) < wanted:
                return rpc.ListDecisionsResponse(decisions=found)
        token = self._pages.encode(request, before_id)
        return rpc.ListDecisionsResponse(decisions=found, next_page_token=token)


def _revision(policy_id: str, revision: int, tx: sa.Connection) -> sa.Row[Any] | None:
    try:
        return revisions.find(tx, policy_id, revision)
    except errors.NotFound:
        return None


def shadowed(tx: sa.Connection, since_us: int, before_id: str, at_most: int) -> Sequence[sa.Row[Any]]:
    """Decisions at which policies in shadow mode were asked, newest first."""
    filters = [decisions.c.shadow != "[]", decisions.c.id >= first_id("dec", since_us)]
    return _page(filters, before_id, at_most, tx)


def _page(
    filters: Iterable[sa.ColumnElement[bool]], before_id: str, at_most: int, tx: sa.Connection
) -> Sequence[sa.Row[Any]]:
    statement = sa.select(decisions).where(*filters).order_by(decisions.c.id.desc()).limit(at_most)
    if before_id:
        statement = statement.where(decisions.c.id < before_id)
    return tx.execute(statement).all()


def _filters(request: rpc.ListDecisionsRequest) -> list[sa.ColumnElement[bool]]:
    filters: list[sa.ColumnElement[bool]] = []
    if request.stack_id:
        filters.append(decisions.c.stack_id == request.stack_id)
    if request.run_id:
        filters.append(decisions.c.run_id == request.run_id)
    if request.kind:
        filters.append(decisions.c.kind == kind_of(request.kind).value)
    if request.caller_login:
        filters.append(decisions.c.caller_login == request.caller_login)
    if request.HasField("allowed"):
        filters.append(decisions.c.allowed.is_(request.allowed))
    if request.samples_only:
        filters.append(decisions.c.sample.is_(True))
    # Ids sort by time.
    if request.HasField("created_after"):
        filters.append(decisions.c.id >= first_id("dec", clock.from_timestamp(request.created_after)))
    if request.HasField("created_before"):
        filters.append(decisions.c.id < first_id("dec", clock.from_timestamp(request.created_before)))
    return filters
