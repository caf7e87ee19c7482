"""Every recorded decision again, with a text that is not stored. Nothing is written; memory does not grow with them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import sqlalchemy as sa

from control_plane import clock
from control_plane.clock import to_timestamp
from control_plane.errors import LimitExceeded, ShuttingDown
from control_plane.identity.principal import Principal
from control_plane.ids import first_id
from control_plane.policies import candidate, retrial
from control_plane.policies.backtest_report import Tally, effect_numbers
from control_plane.policies.candidate import Candidate
from control_plane.policies.decision_log import DecisionLog
from control_plane.policies.engine import PolicyEngine
from control_plane.policies.errors import EvaluationFailed
from control_plane.policies.retrial import Part, Retrial
from control_plane.policies.trial import SLOW_US, Answer, GivenUp, Trial
from control_plane.stacks.access import Access
from control_plane.storage.database import Database
from control_plane.storage.tables import decisions
from interlock.v1 import backtest_pb2, policy_pb2
from interlock.v1 import policy_service_pb2 as rpc
from policies.workbench.kinds import Kind

_AT_ONCE: Final = 2
_PAGE: Final = 256
# So many responses wait for a caller who reads slowly, so long for one who does not read.
_UNREAD: Final = 1024
_STALLED_S: Final = 60.0
_LAST = sa.select(sa.func.max(decisions.c.id))
_BETWEEN = (decisions.c.id > sa.bindparam("after"), decisions.c.id <= sa.bindparam("last"))
_COUNT = sa.select(sa.func.count(decisions.c.id)).where(*_BETWEEN)
_IDS = sa.select(decisions.c.id).where(*_BETWEEN).order_by(decisions.c.id).limit(_PAGE)
_PROGRESS_EVERY_S: Final = 1.0
_DEFAULT_CHANGES: Final = 100
_COLUMNS: Final[Sequence[sa.Column[Any]]] = (
    decisions.c.id,
    decisions.c.stack_id,
    decisions.c.caller_login,
    decisions.c.input,
    decisions.c.policies,
    decisions.c.result,
    decisions.c.took_us,
    decisions.c.decided_at,
)


class CallerStalled(LimitExceeded):
    """The caller has left what was told unread for too long."""

    def __init__(self) -> None:
        super().__init__(
            f"what the backtest said was not read for {_STALLED_S:g} s, so it was ended; others wait for their turn"
        )


class Backtests:
    """One per control plane. `close` ends what is under way."""

    def __init__(self, db: Database, engine: PolicyEngine, log: DecisionLog, access: Access) -> None:
        self._db = db
        self._engine = engine
        self._log = log
        self._access = access
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._is_closing = False

    def close(self) -> None:
        """Each is told to begin again elsewhere."""
        self._is_closing = True

    async def run(
        self, principal: Principal, request: rpc.BacktestPolicyRequest
    ) -> AsyncGenerator[rpc.BacktestPolicyResponse]:
        """As PolicyService.BacktestPolicy says."""
        kind = await candidate.kind_asked_for(self._db, self._engine, request)
        if kind is Kind.LOGIN:
            principal.require_admin("backtest login policies")
        if request.stack_id:
            await self._access.readable(principal, request.stack_id)
        tried = await candidate.checked(self._engine, kind, request)
        wanted = await self._db.read(partial(_filter, kind, request))
        run = _Run(tried, request, wanted.total)
        yield run.progress()
        told = _Told()
        evaluating = asyncio.create_task(self._evaluate(principal, run, tried, wanted, told), name="backtest")
        try:
            async for response in told:
                yield response
            await evaluating
        finally:
            evaluating.cancel()
            await asyncio.gather(evaluating, return_exceptions=True)
        yield run.report()

    async def _evaluate(
        self, principal: Principal, run: _Run, tried: Candidate, wanted: _Filter, told: _Told
    ) -> None:
        """In a task of its own: whoever does not read what is told must not keep others from their turn."""
        try:
            async with (
                self._turns,
                tried.opened(self._engine) as trial,
                aclosing(self._pages(wanted)) as pages,
            ):
                run.begin()
                may_read: dict[str, bool] = {}
                async for page in pages:
                    if self._is_closing:
                        raise ShuttingDown
                    await self._look_up(principal, page.rows, may_read)
                    readable = [row for row in page.rows if may_read[row.stack_id]]
                    for response in await run.page(trial, readable, looked_at=page.looked_at):
                        await told.put(response)
        finally:
            told.end()

    async def _pages(self, request: _Filter) -> AsyncGenerator[_Page]:
        """Oldest first; the next one is read while one is evaluated."""
        reading = asyncio.ensure_future(self._db.read(partial(_page, request, request.first)))
        try:
            while (page := await reading).looked_at:
                reading = asyncio.ensure_future(self._db.read(partial(_page, request, page.last)))
                yield page
        finally:
            reading.cancel()

    async def _look_up(
        self, principal: Principal, rows: Sequence[sa.Row[Any]], known: dict[str, bool]
    ) -> None:
        """Notes which of the rows' stacks the caller may read."""
        unknown = list({row.stack_id: row for row in rows if row.stack_id not in known}.values())
        if unknown:
            answers = await self._log.readable(principal, unknown)
            known.update(zip((row.stack_id for row in unknown), answers, strict=True))


class _Told:
    """What is on its way to the caller, who may be slow to read it, up to a point."""

    def __init__(self) -> None:
        self._responses: asyncio.Queue[rpc.BacktestPolicyResponse | None] = asyncio.Queue()
        self._room = asyncio.Semaphore(_UNREAD)

    async def put(self, response: rpc.BacktestPolicyResponse) -> None:
        """Raises CallerStalled."""
        try:
            async with asyncio.timeout(_STALLED_S):
                await self._room.acquire()
        except TimeoutError as error:
            raise CallerStalled from error
        self._responses.put_nowait(response)

    def end(self) -> None:
        self._responses.put_nowait(None)

    async def __aiter__(self) -> AsyncGenerator[rpc.BacktestPolicyResponse]:
        while (response := await self._responses.get()) is not None:
            self._room.release()
            yield response


@dataclass(frozen=True)
class _Filter:
    """Which decisions: ids after `first` and up to `last`, of which there are `total`, of all kinds."""

    first: str
    last: str
    total: int
    conditions: Sequence[sa.ColumnElement[bool]]


@dataclass(frozen=True)
class _Page:
    """Those of `looked_at` decisions, up to id `last`, that are wanted."""

    rows: Sequence[sa.Row[Any]]
    last: str
    looked_at: int


@dataclass(frozen=True)
class _Case:
    """A recorded decision, made ready to be tried again."""

    row: sa.Row[Any]
    part: Part
    document: str


class _Run:
    """One backtest: what it has found so far."""

    def __init__(self, tried: Candidate, request: rpc.BacktestPolicyRequest, total: int) -> None:
        self._tried = tried
        self._label = request.label
        self._total = total
        self._tally = Tally()
        self._changes_left = request.max_changes or _DEFAULT_CHANGES
        self._began = self._told = time.monotonic()

    def begin(self) -> None:
        self._began = self._told = time.monotonic()

    async def page(
        self, trial: Trial, rows: Sequence[sa.Row[Any]], *, looked_at: int
    ) -> list[rpc.BacktestPolicyResponse]:
        """What is to be told of these decisions.

        Raises:
            EvaluationFailed: the text was given up; it names a decision.
        """
        before = self._tally.decisions
        # JSON takes time, which others need on the event loop.
        cases = await asyncio.to_thread(self._cases, rows)
        try:
            answers = await trial.answers([case.document for case in cases])
        except GivenUp as error:
            decision_id = cases[error.at - before].row.id
            raise EvaluationFailed(
                f"{error.cause}, again and again, at last in decision {decision_id}; it was given up",
                policy_name=self._tried.file,
            ) from error
        self._tally.read += looked_at
        self._tally.passed_over += len(rows) - len(cases)
        told = [
            rpc.BacktestPolicyResponse(change=change)
            for case, answer in zip(cases, answers, strict=True)
            if (change := self._tried_again(case, answer)) is not None
        ]
        if time.monotonic() - self._told >= _PROGRESS_EVERY_S:
            self._told = time.monotonic()
            told.append(self.progress())
        return told

    def progress(self) -> rpc.BacktestPolicyResponse:
        return rpc.BacktestPolicyResponse(progress=self._tally.progress(self._total, self._rate))

    def report(self) -> rpc.BacktestPolicyResponse:
        kind = policy_pb2.PolicyKind.Value(f"POLICY_KIND_{self._tried.kind.name}")
        return rpc.BacktestPolicyResponse(report=self._tally.report(kind, self._tried.replaces, self._rate))

    @property
    def _rate(self) -> float:
        return self._tally.decisions / max(time.monotonic() - self._began, 0.001)

    def _cases(self, rows: Sequence[sa.Row[Any]]) -> list[_Case]:
        return [case for row in rows if (case := self._case(row)) is not None]

    def _case(self, row: sa.Row[Any]) -> _Case | None:
        """None where it is passed over."""
        kind = self._tried.kind
        if self._label and self._label not in json.loads(row.input).get("stack", {}).get("labels", ()):
            return None
        part = retrial.part_of(
            kind, json.loads(row.policies), json.loads(row.result), replaces=self._tried.replaces
        )
        return None if part is None else _Case(row, part, retrial.input_for(kind, row.input))

    def _tried_again(self, case: _Case, answer: Answer) -> backtest_pb2.BacktestChange | None:
        """Counted; the change where it is one that is to be sent."""
        row = case.row
        is_slower = answer.took_us > max(SLOW_US, row.took_us)
        again: Retrial = retrial.retry(case.part, answer.said, is_slower=is_slower)
        self._tally.add(
            again,
            stack_id=row.stack_id,
            caller_login=row.caller_login,
            took_us=answer.took_us,
            is_known=case.part.others is not None,
        )
        if not again.effects or not self._changes_left:
            return None
        self._changes_left -= 1
        return backtest_pb2.BacktestChange(
            decision_id=row.id,
            create_time=to_timestamp(row.decided_at),
            stack_id=row.stack_id,
            caller_login=row.caller_login,
            effects=effect_numbers(again.effects),
            was=again.was,
            would_be=again.would_be,
            messages=again.messages,
            evaluation_us=answer.took_us,
        )


def _filter(kind: Kind, request: rpc.BacktestPolicyRequest, tx: sa.Connection) -> _Filter:
    """No decision that is made after now is among them."""
    conditions = [decisions.c.kind == retrial.recorded_as(kind).value]
    if request.stack_id:
        conditions.append(decisions.c.stack_id == request.stack_id)
    first = first_id("dec", clock.from_timestamp(request.since)) if request.HasField("since") else ""
    last = tx.execute(_LAST).scalar() or ""
    # Counted on the index of ids alone.
    total = tx.execute(_COUNT, {"after": first, "last": last}).scalar_one()
    return _Filter(first, last, total, conditions)


def _page(wanted: _Filter, after: str, tx: sa.Connection) -> _Page:
    """However few are wanted, only so many are looked at in one read, which others wait for."""
    ids = tx.execute(_IDS, {"after": after, "last": wanted.last}).scalars().all()
    if not ids:
        return _Page((), after, 0)
    statement = sa.select(*_COLUMNS).where(
        decisions.c.id > after, decisions.c.id <= ids[-1], *wanted.conditions
    )
    return _Page(tx.execute(statement.order_by(decisions.c.id)).all(), ids[-1], len(ids))
