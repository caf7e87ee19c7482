"""StartRun: a stack's own plan and apply. Access policies first, outside any transaction; then one transaction, which
checks that what was judged still stands and records run and audit event together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from control_plane import clock, ids
from control_plane.audit import events
from control_plane.identity.principal import Principal
from control_plane.policies import records
from control_plane.policies.tasks import stored_session
from control_plane.runs import messages, queue_room, review_store, store
from control_plane.runs.errors import ChangedMeanwhile, NoSequence
from control_plane.runs.notices import Notices
from control_plane.runs.planned import TRACKED
from control_plane.runs.queries import Queries
from control_plane.stacks import snapshot
from control_plane.stacks.access import Guard
from control_plane.stacks.locks import require_not_locked_against
from control_plane.stacks.pinning import PinnedSource, SourcePins
from control_plane.stacks.snapshot import StackSnapshot
from control_plane.storage import requests
from control_plane.storage.database import Database
from interlock.v1 import run_pb2, stack_pb2
from interlock.v1 import run_service_pb2 as rpc

_METHOD: Final = "StartRun"
_ATTEMPTS: Final = 4
# Tools that bring a plan and an apply; the others need the stack's own.
_WITH_SEQUENCE: Final = frozenset(
    {stack_pb2.TOOL_TERRAFORM, stack_pb2.TOOL_OPENTOFU, stack_pb2.TOOL_TERRAGRUNT}
)


class RunStarts:
    """Starts tracked runs."""

    def __init__(
        self, db: Database, guard: Guard, pins: SourcePins, queries: Queries, notices: Notices
    ) -> None:
        self._db = db
        self._guard = guard
        self._pins = pins
        self._queries = queries
        self._notices = notices

    async def start(self, principal: Principal, request: rpc.StartRunRequest) -> run_pb2.Run:
        """As RunService.StartRun says."""
        for _ in range(_ATTEMPTS):
            found = await self._db.read(lambda tx: _look(tx, principal, request))
            if isinstance(found, str):
                return await self._queries.load(found)
            stack = found.stack
            await self._guard.require_write(principal, stack)
            require_not_locked_against(principal, stack)
            if stack.tool not in _WITH_SEQUENCE and not stack.custom_plan:
                raise NoSequence(stack.id)
            source = await self._pins.pin(stack)
            started = await self._db.write(_Start(principal, request, found, source).record)
            if started is not None:
                self._notices.queue_changed(stack.id)
                if started.HasField("queue_deadline"):
                    self._notices.wake_queue_timeouts()
                return started
        raise ChangedMeanwhile(request.stack_id)


@dataclass(frozen=True, slots=True)
class _Basis:
    """What was judged, read at one moment."""

    stack: StackSnapshot
    policies_version: int


@dataclass(frozen=True, slots=True)
class _Start:
    principal: Principal
    request: rpc.StartRunRequest
    basis: _Basis
    source: PinnedSource

    def record(self, connection: sa.Connection) -> run_pb2.Run | None:
        """One transaction. None where what was judged does not stand any more: judge again."""
        principal, request, stack = self.principal, self.request, self.basis.stack
        known = requests.find(connection, principal.id, _METHOD, request.request_id, request)
        if known is not None:
            return messages.stored(connection, known)
        if snapshot.version_of(connection, stack.id) != stack.version:
            return None
        if records.policies_version(connection) != self.basis.policies_version:
            return None
        deadline = queue_room.take(connection, stack.id, principal.login, request)
        run_id = ids.new_id("run")
        auto_confirm = request.auto_confirm if request.HasField("auto_confirm") else stack.autodeploy
        now = clock.now_us()
        row, change = store.insert_queued(
            connection,
            {
                "id": run_id,
                "stack_id": stack.id,
                "type": TRACKED,
                "command": "",
                "skip_initialization": False,
                "auto_confirm": auto_confirm,
                "creator_id": principal.id,
                "creator_login": principal.login,
                "creator": principal.to_caller().SerializeToString(deterministic=True),
                "pool_id": stack.pool.id,
                "decision_id": "",
                "commit_hash": self.source.commit_hash,
                "commit_ref": self.source.commit_ref,
                "source_sha256": self.source.source_sha256,
                "source_size_bytes": self.source.source_size_bytes,
                "queue_deadline": deadline,
                "created_at": now,
                "updated_at": now,
            },
            f"started by {principal.login}",
        )
        review_store.begin(connection, run_id, stored_session(principal))
        events.record(
            connection, principal, "run.started", "run", run_id, stack_id=stack.id,
            details={"auto_confirm": auto_confirm},
        )  # fmt: skip
        requests.remember(connection, principal.id, _METHOD, request.request_id, request, run_id)
        return messages.to_run(row, history=[change])


def _look(connection: sa.Connection, principal: Principal, request: rpc.StartRunRequest) -> str | _Basis:
    """The id of the run that this request started before, or what to judge it by."""
    known = requests.find(connection, principal.id, _METHOD, request.request_id, request)
    if known is not None:
        return known
    return _Basis(snapshot.load(connection, request.stack_id), records.policies_version(connection))
