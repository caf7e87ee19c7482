"""A control plane without its network: the real scheduler, store and rules on a real database, and a crash before any
statement that a test names. A crash takes the transaction and all that the process had in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa

from control_plane import clock
from control_plane.keys import Sealer
from control_plane.pools.connections import HeldRun, RunnerConnection
from control_plane.replicas.registry import Registry
from control_plane.runs import reach, reconcile, store
from control_plane.storage import tables
from control_plane.storage.database import Database
from interlock.v1 import runner_service_pb2 as rpc
from tests.integration.runs import way
from tests.integration.runs.conftest import ADA, insert_stack
from tests.integration.runs.model.expected import Ref, Run

T = TypeVar("T")


class Crash(Exception):
    """The process has died."""


class ControlPlane:
    """Started anew after each crash. Calls block; `folder` and `pool_id` are its own among those of other examples."""

    def __init__(
        self, db: Database, sealer: Sealer, loop: asyncio.AbstractEventLoop, folder: Path, pool_id: str
    ) -> None:
        self.db = db
        self._sealer = sealer
        self._loop = loop
        folder.mkdir()
        self._folder = folder
        self._pool_id = pool_id
        # Statements until the crash; None while none is due.
        self._left: int | None = None
        self._has_crashed = self._is_working = False
        for event in ("before_cursor_execute", "commit"):
            sa.event.listen(db.engine, event, self._count)
        self.start()

    def close(self) -> None:
        for event in ("before_cursor_execute", "commit"):
            sa.event.remove(self.db.engine, event, self._count)

    def crash_before(self, statement: int) -> None:
        """Of those from now on. Where the next call has fewer, it is done, and its answer is lost."""
        self._left = statement

    @property
    def is_about_to_crash(self) -> bool:
        return self._left is not None

    def start(self) -> None:
        """A new process: nobody is connected to it, and it says so of every run that somebody has."""
        self._left, self._has_crashed = None, False
        self._scheduler, self.connections = way.scheduler(self.db)
        self._registry = Registry(self.db)
        self.call(self._registry.start(self._folder, "storage"))
        active = self.call(self.db.read(store.all_active))
        for runner_id in sorted(
            {run.runner_id for run in active if run.runner_id and run.pool_id == self._pool_id}
        ):
            self.write(partial(reach._mark, runner_id=runner_id, since_us=clock.now_us()))

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        self._is_working = True
        try:
            return self._loop.run_until_complete(work)
        except Exception:
            if self._has_crashed:
                raise Crash from None
            raise
        finally:
            self._is_working = False

    def write(self, unit: Callable[[sa.Connection], T]) -> T:
        return self.call(self.db.write(unit))

    def create(self, run: Run, request_id: str) -> str:
        """The id of the run that this request makes, or has made."""
        if run.is_hold:
            wanted = way.hold_request(request_id, run.stack_id, release_on_expiry=run.releases_itself)
            return self.call(way.hold_requests(self.db).ask(ADA, wanted))
        if not run.is_tracked:
            return self.call(way.creation(self.db).create(ADA, way.request(request_id, run.stack_id))).id
        request = way.start_request(request_id, run.stack_id, auto_confirm=run.confirms_itself)
        return self.call(way.starts(self.db).start(ADA, request)).id

    def dispatch(self) -> bool:
        """False where the process died in it."""
        try:
            self.call(way.dispatch(self._scheduler))
        except Crash:
            return False
        return True

    def connect(self, hello: rpc.Hello) -> RunnerConnection | None:
        """The runner is in the registry, and not yet welcome. None where the process died in it."""
        claiming = self._registry.claim(
            hello.runner_id, pool_id=self._pool_id, capacity=hello.capacity, boot_id=hello.boot_id, status=b""
        )
        try:
            claim = self.call(claiming)
        except Crash:
            return None
        assert claim is not None

        async def made() -> RunnerConnection:
            return RunnerConnection(
                runner_id=hello.runner_id, pool_id=self._pool_id, token_id="ptk_1", name=hello.name, version="1",
                capacity=hello.capacity, boot_id=hello.boot_id, machine_id=hello.machine_id, last_seen_us=clock.now_us(),
                epoch=claim.epoch,
            )  # fmt: skip

        connection = self.call(made())
        self.connections.add(connection)
        return connection

    def settle(self, tx: sa.Connection, hello: rpc.Hello) -> reconcile.Reconciled:
        return reconcile.reconcile(tx, hello, self._sealer, {})

    @staticmethod
    def welcome(connection: RunnerConnection, kept: Sequence[reconcile.Kept]) -> None:
        for each in kept:
            held = HeldRun(each.ref.run_id, each.stack_id, each.ref.fencing_token, each.output_start)
            connection.active[each.ref.assignment_id] = held
        connection.is_welcomed = True

    def part_with(self, connection: RunnerConnection, tx: sa.Connection) -> None:
        """Its stream has ended."""
        self._registry.let_go(tx, connection.runner_id, connection.epoch, clock.now_us())
        reach._mark(tx, connection.runner_id, clock.now_us())

    def end_lease(self, tx: sa.Connection, runner_id: str) -> None:
        reach._end_lease(tx, runner_id, clock.now_us(), {})

    def _count(self, *_: object) -> None:
        if self._left is None or not self._is_working:
            return
        self._left -= 1
        if self._left <= 0:
            self._left, self._has_crashed = None, True
            raise Crash


def furnish(tx: sa.Connection, pool_id: str, stack_ids: Sequence[str]) -> None:
    """A pool, and stacks that run there."""
    pool = {
        "id": pool_id,
        "name": pool_id,
        "public": True,
        "labels": [],
        "container": b"",
        "created_at": clock.now_us(),
    }
    tx.execute(sa.insert(tables.pools), pool)
    for stack_id in stack_ids:
        insert_stack(tx, stack_id, pool_id, custom_plan=["true"], custom_apply=["true"])


def message_of(ref: Ref) -> rpc.AssignmentRef:
    return rpc.AssignmentRef(run_id=ref.run_id, assignment_id=ref.assignment_id, fencing_token=ref.fence)
