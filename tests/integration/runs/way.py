"""A task's whole way through the record, from its call to its result, begun or taken up again wherever it stands."""

from __future__ import annotations

import asyncio
from typing import Any

from control_plane.keys import MasterKey, Sealer
from control_plane.policies.records import DecisionRecord, Judgement
from control_plane.pools.connections import Connections
from control_plane.runs import messages, progress, store
from control_plane.runs.create import TaskCreation
from control_plane.runs.feeds import Feeds
from control_plane.runs.hold_requests import HoldRequests
from control_plane.runs.jobs import JobBuilder
from control_plane.runs.notices import Notices
from control_plane.runs.scheduler import Scheduler
from control_plane.runs.start import RunStarts
from control_plane.runs.states import RunState
from control_plane.stacks.pinning import PinnedSource
from control_plane.storage.database import Database
from control_plane.storage.outputs import StoredOutput
from interlock.v1 import run_pb2, run_service_pb2
from interlock.v1 import runner_service_pb2 as rpc
from interlock.v1 import slot_service_pb2 as slot_rpc
from tests import crashing
from tests.integration.runs.conftest import ADA, RUNNER, STACK, connect_runner


async def go(db: Database, request_id: str) -> str:
    """To its end; the run's id. The same request goes on where an earlier process was killed."""
    run_id = (await creation(db).create(ADA, request(request_id))).id
    await _dispatch(db)
    run = await db.read(lambda tx: store.find(tx, run_id))
    assert run is not None
    if RunState(run.state).is_final:
        return run_id
    ref = rpc.AssignmentRef(run_id=run_id, assignment_id=run.assignment_id, fencing_token=run.fence)
    await db.write(lambda tx: progress.accepted(tx, ref, RUNNER))
    await db.write(lambda tx: progress.initializing(tx, ref, RUNNER))
    assert (await db.write(lambda tx: progress.ask_gate(tx, ref, RUNNER))).go
    result = rpc.RunResult(assignment=ref, outcome=rpc.RUN_OUTCOME_EXITED, exit_code=0)
    await db.write(lambda tx: progress.result(tx, result, RUNNER, StoredOutput(3, "abc")))
    return run_id


class _Allowing:
    """A guard whose policies allow everything."""

    async def judge_task(
        self, principal: Any, stack: Any, command: str, *, policies_version: int
    ) -> Judgement:
        record = DecisionRecord(
            kind="task",
            stack_id=stack.id,
            caller_login=principal.login,
            is_allowed=True,
            document={},
            policies=[],
            result={},
            took_us=0,
        )
        return Judgement(record, policies_version)

    async def require_write(self, principal: Any, stack: Any) -> None:
        """Everybody may."""


class _NoSource:
    async def pin(self, stack: Any) -> PinnedSource:
        return PinnedSource()


class _Stored:
    def __init__(self, db: Database) -> None:
        self._db = db

    async def load(self, run_id: str) -> run_pb2.Run:
        return await self._db.read(lambda tx: messages.stored(tx, run_id))


def request(request_id: str, stack_id: str = STACK) -> run_service_pb2.CreateTaskRequest:
    return run_service_pb2.CreateTaskRequest(stack_id=stack_id, command="true", request_id=request_id)


def creation(db: Database) -> TaskCreation:
    """Of tasks, whatever policies say."""
    parts: Any = _Allowing(), _NoSource(), _Stored(db), Notices(Feeds()), None
    return TaskCreation(db, *parts)


def start_request(request_id: str, stack_id: str, *, auto_confirm: bool) -> run_service_pb2.StartRunRequest:
    return run_service_pb2.StartRunRequest(
        stack_id=stack_id, auto_confirm=auto_confirm, request_id=request_id
    )


def starts(db: Database) -> RunStarts:
    """Of tracked runs, whatever policies say."""
    parts: Any = _Allowing(), _NoSource(), _Stored(db), Notices(Feeds())
    return RunStarts(db, *parts)


def hold_request(request_id: str, stack_id: str, *, release_on_expiry: bool) -> slot_rpc.AcquireSlotRequest:
    return slot_rpc.AcquireSlotRequest(
        stack_id=stack_id, release_on_expiry=release_on_expiry, request_id=request_id
    )


def hold_requests(db: Database) -> HoldRequests:
    """For holds, whatever policies say."""
    parts: Any = _Allowing(), Notices(Feeds())
    return HoldRequests(db, *parts)


def scheduler(db: Database) -> tuple[Scheduler, Connections]:
    """And the runners that it knows of: none yet."""
    connections, sealer = Connections(), Sealer(MasterKey(bytes(32)))
    return Scheduler(db, connections, JobBuilder(sealer), sealer, Notices(Feeds())), connections


async def dispatch(dispatching: Scheduler) -> None:
    """Once, as if it had been woken."""
    await dispatching._dispatch()


async def _dispatch(db: Database) -> None:
    dispatching, connections = scheduler(db)
    connect_runner(connections)
    await dispatch(dispatching)


def _crash(url: str, number: int) -> None:
    db = Database(url)
    crashing.crash_before(db.engine, number)
    asyncio.run(go(db, f"crash-{number}"))


if __name__ == "__main__":
    crashing.serve(_crash)
