"""Reading runs: one, many, and why they wait."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import sqlalchemy as sa

from control_plane import clock, errors
from control_plane.identity.principal import Principal
from control_plane.limits.caps import Caps
from control_plane.paging import DEFAULT_PAGE_SIZE, MAX_PAGE_BYTES, PageTokens
from control_plane.policies.combine import Approval
from control_plane.pools.connections import Connections
from control_plane.queue import lanes, order
from control_plane.replicas.registry import Registry
from control_plane.runs import late, messages, plans, review_store, store, waiting
from control_plane.runs.errors import WrongState
from control_plane.runs.holds import HOLD
from control_plane.runs.review_input import to_reviews
from control_plane.runs.states import WAITING, RunState
from control_plane.stacks import snapshot
from control_plane.stacks.access import Guard
from control_plane.stacks.snapshot import StackSnapshot
from control_plane.storage.database import Database
from control_plane.storage.outputs import Outputs
from control_plane.storage.tables import runs
from interlock.v1 import caller_pb2, run_pb2
from interlock.v1 import run_service_pb2 as rpc

# How many rows are looked at for one page before a short page is returned.
_MAX_SCANNED_PAGES = 20


class Queries:
    """What callers may read of runs."""

    def __init__(
        self,
        db: Database,
        guard: Guard,
        connections: Connections,
        outputs: Outputs,
        pages: PageTokens,
        replicas: Registry,
    ) -> None:
        self._db = db
        self._guard = guard
        self._connections = connections
        self._outputs = outputs
        self._pages = pages
        self._replicas = replicas

    async def readable_row(self, principal: Principal, run_id: str) -> sa.Row[Any]:
        """The row of a run. Raises NotFound where it is not there or the caller may not read its stack."""
        row, stack = await self._db.read(lambda tx: _row_and_stack(tx, run_id))
        if row is None or stack is None:
            raise errors.NotFound("run", run_id)
        await hidden_as_run(self._guard.require_read(principal, stack), run_id)
        return row

    async def writable_row(self, principal: Principal, run_id: str) -> sa.Row[Any]:
        """As `readable_row`. Raises NotAllowed where the caller may read but not write."""
        row, stack = await self._db.read(lambda tx: _row_and_stack(tx, run_id))
        if row is None or stack is None:
            raise errors.NotFound("run", run_id)
        await hidden_as_run(self._guard.require_write(principal, stack), run_id)
        return row

    async def load(self, run_id: str) -> run_pb2.Run:
        """The whole message of a run, history and reason for waiting included, without asking who wants it."""
        return await self._load_with(lambda tx: self._whole(tx, run_id))

    async def plan(self, row: sa.Row[Any]) -> run_pb2.Plan:
        """The plan of a run that was read. Raises WrongState where it has none."""
        stored = await self._db.read(lambda tx: plans.find(tx, row.id))
        if row.plan is None or stored is None or stored.changes is None:
            raise WrongState(row.id, f"{row.id} has no plan: it is a {row.type.lower()} run and {row.state}")
        plan = run_pb2.Plan(run_id=row.id)
        plan.MergeFromString(stored.changes)
        plan.summary.MergeFromString(row.plan)
        return plan

    async def list(self, principal: Principal, request: rpc.ListRunsRequest) -> rpc.ListRunsResponse:
        """One page, newest first, of the stacks that the caller may read."""
        before_id = self._pages.decode(request)
        wanted = request.page_size or DEFAULT_PAGE_SIZE
        filters = _filters(request)
        found: list[run_pb2.Run] = []
        size_bytes = 0
        is_full = False
        may_read: dict[str, bool] = {}
        for _ in range(_MAX_SCANNED_PAGES):
            rows = await self._db.read(
                partial(store.list_page, filters=filters, before_id=before_id, at_most=wanted)
            )
            await self._learn(principal, {str(row.stack_id) for row in rows} - may_read.keys(), may_read)
            for row in rows:
                before_id = row.id
                if may_read[row.stack_id]:
                    found.append(self._brief(row))
                    size_bytes += found[-1].ByteSize()
                is_full = len(found) == wanted or size_bytes >= MAX_PAGE_BYTES
                if is_full:
                    break
            if is_full or len(rows) < wanted:
                return rpc.ListRunsResponse(
                    runs=found, next_page_token=self._pages.encode(request, before_id) if is_full else ""
                )
        return rpc.ListRunsResponse(runs=found, next_page_token=self._pages.encode(request, before_id))

    async def _learn(self, principal: Principal, stack_ids: set[str], may_read: dict[str, bool]) -> None:
        if not stack_ids:
            return
        ordered = sorted(stack_ids)
        stacks = await self._db.read(lambda tx: [snapshot.load_any(tx, stack_id) for stack_id in ordered])
        answers = await self._guard.readable(principal, stacks)
        may_read.update(zip(ordered, answers, strict=True))

    async def _load_with(self, unit: Callable[[sa.Connection], tuple[Any, ...]]) -> run_pb2.Run:
        row, changes, obstacles, reviewed, evidence = await self._db.read(unit)
        why = None
        if reviewed.holds(RunState(row.state)):
            why = waiting.for_approval(reviewed.reason)
        elif obstacles is not None and row.type == HOLD:
            why = waiting.explain_place(row.creator_id, obstacles)
        elif obstacles is not None:
            why = waiting.explain_run(
                row.id, row.creator_id, RunState(row.state), self._with_runners(obstacles)
            )
        run = messages.to_run(
            row,
            output_size_bytes=await self._size(row),
            waiting=why,
            history=changes,
            reviews=reviewed.reviews,
            approval_decision_id=reviewed.decision_id,
        )
        if evidence is not None:
            output = self._outputs.opened(row.id)
            run.late_evidence.CopyFrom(
                late.to_message(evidence, row, output.durable_bytes if output else None)
            )
        return run

    def _whole(self, connection: sa.Connection, run_id: str) -> tuple[Any, ...]:
        row = store.find(connection, run_id)
        if row is None:
            raise errors.NotFound("run", run_id)
        obstacles = _obstacles(connection, row, self._replicas) if _waits(row) else None
        was_abandoned = row.failure == run_pb2.RUN_FAILURE_ABANDONED
        evidence = late.find(connection, run_id) if was_abandoned else None
        return row, store.history(connection, run_id), obstacles, _reviewed(connection, run_id), evidence

    def _with_runners(self, obstacles: waiting.Obstacles) -> waiting.Obstacles:
        runners = self._connections.of_pool(obstacles.pool_id)
        return replace(
            obstacles,
            connected_runners=obstacles.connected_runners + len(runners),
            free_capacity=obstacles.free_capacity + sum(runner.free_capacity for runner in runners),
        )

    async def _size(self, row: sa.Row[Any]) -> int | None:
        """As `_durable`; of a run whose runner is connected to another replica, or to nobody, what is stored."""
        may_be_elsewhere = not self._replicas.is_alone or row.unreachable_since is not None
        if RunState(row.state).is_active and may_be_elsewhere and self._outputs.opened(row.id) is None:
            return await self._outputs.size_stored(row.id)
        return self._durable(row)

    def _durable(self, row: sa.Row[Any]) -> int | None:
        output = self._outputs.opened(row.id)
        return output.durable_bytes if output and not RunState(row.state).is_final else None

    def _brief(self, row: sa.Row[Any]) -> run_pb2.Run:
        return messages.to_run(row, output_size_bytes=self._durable(row))


async def hidden_as_run(check: Awaitable[None], run_id: str) -> None:
    """A stack that may not be read hides its runs: NotFound names the run, not the stack."""
    try:
        await check
    except errors.NotFound as error:
        raise errors.NotFound("run", run_id) from error


def _row_and_stack(connection: sa.Connection, run_id: str) -> tuple[sa.Row[Any] | None, StackSnapshot | None]:
    row = store.find(connection, run_id)
    return row, snapshot.load_any(connection, row.stack_id) if row is not None else None


def _waits(row: sa.Row[Any]) -> bool:
    """Something has to happen before it goes on, and no runner has it."""
    state = RunState(row.state)
    return state in WAITING or (state in (RunState.UNCONFIRMED, RunState.CONFIRMED) and not row.assignment_id)


@dataclass(frozen=True, slots=True)
class _Reviewed:
    """What approval policies and people said of a run."""

    reviews: Sequence[run_pb2.Review] = ()
    decision_id: str = ""
    reason: str = ""
    outcome: str = ""

    def holds(self, state: RunState) -> bool:
        """Approval is what a run in this state waits for."""
        if state is RunState.UNCONFIRMED:
            return self.outcome == Approval.UNDECIDED.value
        return state is RunState.PENDING_REVIEW


def _reviewed(connection: sa.Connection, run_id: str) -> _Reviewed:
    approval = review_store.find(connection, run_id)
    if approval is None:
        return _Reviewed()
    reviews = to_reviews(review_store.reviews(connection, run_id))
    return _Reviewed(reviews, approval.decision_id, approval.reason, approval.outcome)


def _obstacles(connection: sa.Connection, row: sa.Row[Any], replicas: Registry) -> waiting.Obstacles:
    """What the database knows; the runners that are connected here are to be added."""
    slot = store.slot(connection, row.stack_id)
    lock = store.lock(connection, row.stack_id)
    elsewhere = replicas.elsewhere(connection, lock.pool_id)
    runs_before, next_run_id = _standing(connection, row, lock.lock_owner_id)
    caps = Caps.read(connection)
    labels = store.labels(connection, row.stack_id) if caps.labels else []
    times_us = store.slot_times(connection, row.stack_id)
    return waiting.Obstacles(
        holder_run_id=slot.holder_run_id,
        holder_is=waiting.holder_is(slot),
        runs_before=runs_before,
        next_run_id=next_run_id,
        lock_owner=caller_pb2.Caller.FromString(lock.lock_owner) if lock.lock_owner_id else None,
        connected_runners=len(elsewhere),
        free_capacity=sum(runner.free_capacity for runner in elsewhere),
        pool_id=lock.pool_id,
        limit=caps.first_reached(lock.pool_id, row.creator_login, labels),
        expected_wait_s=waiting.expected_wait_s(slot, times_us, runs_before, clock.now_us()),
    )


def _standing(connection: sa.Connection, row: sa.Row[Any], lock_owner_id: str | None) -> tuple[int, str]:
    """How many queued runs of its stack start before this one, and which of all is next."""
    contenders = [
        contender
        for contender in lanes.contenders(connection, row.stack_id)
        # While the stack is locked, its owner's runs alone can start.
        if lock_owner_id in (None, contender.creator_id)
    ]
    mine = next((each for each in contenders if each.creator_id == row.creator_id), None)
    if mine is None or RunState(row.state) is not RunState.QUEUED:
        return 0, ""
    before_in_lane = store.queued_before(connection, row)
    first = min(contenders, key=lambda contender: contender.rank)
    return order.ahead(mine, before_in_lane, contenders), first.run_id


def _filters(request: rpc.ListRunsRequest) -> Sequence[sa.ColumnElement[bool]]:
    filters: list[sa.ColumnElement[bool]] = []
    if request.stack_id:
        filters.append(runs.c.stack_id == request.stack_id)
    if request.states:
        names = [run_pb2.RunState.Name(state).removeprefix("RUN_STATE_") for state in request.states]
        filters.append(runs.c.state.in_(names))
    if request.type:
        filters.append(runs.c.type == run_pb2.RunType.Name(request.type).removeprefix("RUN_TYPE_"))
    if request.caller_login:
        filters.append(runs.c.creator_login == request.caller_login)
    if request.HasField("created_after"):
        filters.append(runs.c.created_at >= clock.from_timestamp(request.created_after))
    if request.HasField("created_before"):
        filters.append(runs.c.created_at < clock.from_timestamp(request.created_before))
    return filters
