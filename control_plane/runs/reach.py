"""Runners that went out of reach. Before the gate their runs fail once the lease is over; behind it a run stays
PERFORMING and keeps its slot, and is shown as unreachable (invariant 3)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
import structlog

from control_plane import clock, errors
from control_plane.pools.connections import Connections
from control_plane.replicas import registry
from control_plane.replicas.registry import Registry
from control_plane.runs import assignments, moves, store
from control_plane.runs.notices import Notices
from control_plane.runs.states import RunState
from control_plane.storage.database import Database
from control_plane.storage.outputs import Outputs, StoredOutput
from interlock.v1 import run_pb2
from interlock.v1 import runner_service_pb2 as rpc

DEFAULT_LEASE_S = 30.0
_RETRY_S = 1.0

log = structlog.get_logger(__name__)


class Reach:
    """Leases of runners without a stream. `lease_s`: how long a runner may be away before its runs fail."""

    def __init__(
        self,
        db: Database,
        outputs: Outputs,
        connections: Connections,
        notices: Notices,
        replicas: Registry,
        *,
        lease_s: float = DEFAULT_LEASE_S,
    ) -> None:
        self._db = db
        self._outputs = outputs
        self._connections = connections
        self._notices = notices
        self._replicas = replicas
        self._lease_s = lease_s
        self._leases: dict[str, asyncio.TimerHandle] = {}
        self._work: asyncio.Queue[Callable[[], Awaitable[None]]] = asyncio.Queue()

    async def start(self) -> None:
        """After a restart no runner is connected yet: every active run's runner gets a whole lease to come back."""
        active = await self._db.read(store.all_active)
        for runner_id in {str(run.runner_id) for run in active if run.runner_id}:
            self.orphaned(runner_id)

    async def serve(self) -> None:
        """Records who is out of reach and ends leases, until cancelled."""
        while True:
            step = await self._work.get()
            try:
                await step()
            except errors.DomainError as error:
                log.error("reach.step_failed", error=str(error), retry_s=_RETRY_S)
                await asyncio.sleep(_RETRY_S)
                self._work.put_nowait(step)

    def lost(self, runner_id: str, epoch: int) -> None:
        """The runner's stream has ended: its active runs are out of reach, and its lease runs down."""
        since_us = clock.now_us()
        self._begin_lease(runner_id, since_us)
        self._work.put_nowait(lambda: self._let_go(runner_id, epoch, since_us))

    def orphaned(self, runner_id: str) -> None:
        """The replica that the runner was connected to is gone; or this one has just started."""
        since_us = clock.now_us()
        self._begin_lease(runner_id, since_us)
        self._work.put_nowait(lambda: self._mark_unreachable(runner_id, since_us))

    def overdue(self, runner_id: str, since_us: int) -> None:
        """Nowhere since then, for a whole lease; and the replica that should have seen to it may be gone."""
        if runner_id not in self._leases:
            self._work.put_nowait(lambda: self._expire(runner_id, since_us))

    def found(self, runner_id: str) -> None:
        """The runner is back: its lease no longer runs down."""
        if lease := self._leases.pop(runner_id, None):
            lease.cancel()

    def _begin_lease(self, runner_id: str, since_us: int) -> None:
        self.found(runner_id)
        loop = asyncio.get_running_loop()
        self._leases[runner_id] = loop.call_later(self._lease_s, self._ran_down, runner_id, since_us)

    def _ran_down(self, runner_id: str, since_us: int) -> None:
        del self._leases[runner_id]
        self._work.put_nowait(lambda: self._expire(runner_id, since_us))

    async def _let_go(self, runner_id: str, epoch: int, since_us: int) -> None:
        def unit(tx: sa.Connection) -> list[sa.Row[Any]]:
            # Not where it has connected again meanwhile, here or to another replica.
            self._replicas.let_go(tx, runner_id, epoch, since_us)
            return _mark(tx, runner_id, since_us)

        self._notify(await self._db.write(unit))
        self._notices.runners_changed()

    async def _mark_unreachable(self, runner_id: str, since_us: int) -> None:
        self._notify(await self._db.write(lambda tx: _mark(tx, runner_id, since_us)))

    async def _expire(self, runner_id: str, since_us: int) -> None:
        active = await self._db.read(lambda tx: _left_behind(tx, runner_id))
        lost = [run.id for run in active if not RunState(run.state).has_passed_gate]
        stored = {run_id: await self._outputs.stored(run_id) for run_id in lost}
        # It may be back, or have been back: then another lease runs.
        if self._connections.of_runner(runner_id) is None and runner_id not in self._leases:
            ended = await self._db.write(lambda tx: _end_lease(tx, runner_id, since_us, stored))
            for run in ended:
                self._outputs.release(run.id)
            self._notify(ended)

    def _notify(self, touched: list[sa.Row[Any]]) -> None:
        for run in touched:
            self._notices.run_moved(run.id)
            self._notices.queue_changed(run.stack_id)


def give_up(
    connection: sa.Connection, run: sa.Row[Any], why: str, output: StoredOutput = moves.NO_OUTPUT
) -> None:
    """What becomes of a run before its gate whose runner does not have it any more; `output` is what it wrote."""
    if run.stop_requested:
        moves.end(connection, run, RunState.STOPPED, f"stopped; {why}", output=output)
    elif RunState(run.state) is RunState.CONFIRMED:
        # Nothing was applied, and the plan is kept: the confirmation stands.
        moves.take_back(connection, run, why, output)
    elif RunState(run.state) is RunState.READY and not _is_accepted(connection, run):
        moves.give_back(connection, run, why)
    else:
        moves.end(
            connection,
            run,
            RunState.FAILED,
            f"{why}; the command was not performed",
            failure=run_pb2.RUN_FAILURE_RUNNER_LOST,
            output=output,
        )


def decline(connection: sa.Connection, ref: rpc.AssignmentRef, runner_id: str) -> None:
    """The runner does not take it: back to the queue, for another.

    Raises:
        errors.FencedOut: the assignment is not current.
    """
    run = assignments.current(connection, ref, runner_id)
    if not _is_accepted(connection, run):
        give_up(connection, run, "its runner takes nothing new")


def _is_accepted(connection: sa.Connection, run: sa.Row[Any]) -> bool:
    assignment = assignments.find(connection, run.assignment_id)
    return assignment is not None and assignment.accepted_at is not None


def _mark(connection: sa.Connection, runner_id: str, since_us: int) -> list[sa.Row[Any]]:
    touched: list[sa.Row[Any]] = []
    if registry.is_connected(connection, runner_id):
        return touched
    for run in store.active_of_runner(connection, runner_id, hold=True):
        if run.unreachable_since is None:
            store.update(connection, run.id, unreachable_since=since_us)
            touched.append(run)
    return touched


def _left_behind(connection: sa.Connection, runner_id: str) -> Sequence[sa.Row[Any]]:
    """Active runs of a runner that is connected to nobody."""
    if registry.is_connected(connection, runner_id, hold=False):
        return ()
    return store.active_of_runner(connection, runner_id)


def _end_lease(
    connection: sa.Connection, runner_id: str, since_us: int, stored: Mapping[str, StoredOutput]
) -> list[sa.Row[Any]]:
    touched: list[sa.Row[Any]] = []
    if not registry.is_nowhere_since(connection, runner_id, since_us):
        return touched
    for run in store.active_of_runner(connection, runner_id, hold=True):
        if RunState(run.state).has_passed_gate:
            continue
        why = f"runner {runner_id} was out of reach for longer than its lease"
        give_up(connection, run, why, stored.get(run.id, moves.NO_OUTPUT))
        touched.append(run)
    return touched
