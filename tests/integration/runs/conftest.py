"""A real database (SQLite and PostgreSQL) with one stack, and builders for what the tests of runs need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pytest
import sqlalchemy as sa

from control_plane import clock, ids
from control_plane.identity.principal import Principal
from control_plane.keys import MasterKey, Sealer
from control_plane.limits.caps import Caps
from control_plane.pools.connections import Connections, RunnerConnection
from control_plane.runs import assignments, moves, store
from control_plane.runs.states import RunState
from control_plane.runs.turn_taking import TurnTaking
from control_plane.storage import tables
from control_plane.storage.database import Database
from interlock.v1 import runner_service_pb2 as rpc
from interlock.v1 import stack_pb2

ADA = Principal(id="key_00000000000000000000000ada", login="ada", name="Ada", teams=("ops",))
RUNNER = "rnr_00000000000000000000000001"
OTHER_RUNNER = "rnr_00000000000000000000000002"
STACK = "network"


@pytest.fixture
def sealer() -> Sealer:
    return Sealer(MasterKey(bytes(32)))


@dataclass(frozen=True)
class World:
    """Steps of a run's life, each a transaction of its own."""

    db: Database
    sealer: Sealer

    async def add_stack(self, stack_id: str = STACK, pool_id: str = "public") -> None:
        await self.db.write(lambda tx: insert_stack(tx, stack_id, pool_id))

    async def queue(self, stack_id: str = STACK, by: Principal = ADA, **columns: object) -> str:
        run_id = ids.new_id("run")
        await self.db.write(lambda tx: insert_run(tx, run_id, stack_id, by, columns))
        return run_id

    async def assign(
        self, run_id: str, runner_id: str = RUNNER, boot_id: str = "boot-1", job: rpc.Job | None = None
    ) -> rpc.AssignmentRef:
        """Takes the slot for a run, as the scheduler does."""
        given = job or rpc.Job(command="true")
        return await self.db.write(lambda tx: self._assign(tx, run_id, runner_id, boot_id, given))

    async def startable(self, pool_id: str = "public") -> list[str]:
        """Ids of runs that could be given a runner of the pool now, the next one first."""
        return await self.db.write(lambda tx: _startable(tx, pool_id))

    async def state(self, run_id: str) -> RunState:
        return RunState((await self.row(run_id)).state)

    async def row(self, run_id: str) -> sa.Row[tuple[object, ...]]:
        row = await self.db.read(lambda tx: store.find(tx, run_id))
        assert row is not None
        return row

    async def holder(self, stack_id: str = STACK) -> str | None:
        slot = await self.db.read(lambda tx: store.slot(tx, stack_id))
        return str(slot.holder_run_id) if slot.holder_run_id else None

    def _assign(
        self, tx: sa.Connection, run_id: str, runner_id: str, boot_id: str, job: rpc.Job
    ) -> rpc.AssignmentRef:
        run = store.find_to_move(tx, run_id)
        assert run is not None
        fence = store.take_slot(tx, run.stack_id, run_id)
        assert fence is not None
        moves.advance(tx, run, RunState.READY, "its turn", fence=fence, runner_id=runner_id)
        run = store.find_to_move(tx, run_id)
        assert run is not None
        given = assignments.Given(run, fence, runner_id, "public", boot_id, "machine-1", job)
        assignments.insert(tx, [given], self.sealer)
        store.update(tx, run_id, assignment_id=given.assignment_id)
        return given.ref


@pytest.fixture
async def world(db: Database, sealer: Sealer) -> World:
    made = World(db, sealer)
    await made.add_stack()
    return made


def connect_runner(
    connections: Connections, runner_id: str = RUNNER, *, capacity: int = 4, pool_id: str = "public"
) -> RunnerConnection:
    """Registers a runner as if its stream had been welcomed."""
    runner = RunnerConnection(
        runner_id=runner_id,
        pool_id=pool_id,
        token_id="ptk_1",
        name=runner_id[-3:],
        version="1",
        capacity=capacity,
        boot_id="boot-1",
        last_seen_us=clock.now_us(),
        is_welcomed=True,
    )
    connections.add(runner)
    return runner


def _startable(tx: sa.Connection, pool_id: str) -> list[str]:
    turns = TurnTaking(tx, pool_id, Caps.read(tx), 100)
    found = []
    while (run := turns.next()) is not None:
        found.append(run.contender.run_id)
        turns.served(run)
    return found


def insert_stack(tx: sa.Connection, stack_id: str, pool_id: str, **columns: object) -> None:
    now = clock.now_us()
    tx.execute(
        sa.insert(tables.stacks),
        {
            "id": stack_id,
            "name": stack_id,
            "description": "",
            "labels": [],
            "source_kind": "archive",
            "tool": stack_pb2.TOOL_CUSTOM,
            "custom_init": [],
            "image": "busybox",
            "pull_policy": stack_pb2.PULL_POLICY_NEVER,
            "pool_id": pool_id,
            "hooks": b"",
            "administrative": False,
            "version": 1,
            "created_at": now,
            "updated_at": now,
            **columns,
        },
    )
    tx.execute(sa.insert(tables.slots), {"stack_id": stack_id})


def insert_run(
    tx: sa.Connection, run_id: str, stack_id: str, by: Principal, columns: Mapping[str, object]
) -> None:
    now = clock.now_us()
    store.insert_queued(
        tx,
        {
            "id": run_id,
            "stack_id": stack_id,
            "type": "TASK",
            "command": "true",
            "skip_initialization": False,
            "creator_id": by.id,
            "creator_login": by.login,
            "creator": by.to_caller().SerializeToString(),
            "pool_id": "public",
            "decision_id": "dec_1",
            "created_at": now,
            "updated_at": now,
            **columns,
        },
        "allowed by policy",
    )
