"""CreateTask: the decision first, outside any transaction; then one transaction, which checks that what was judged
still stands and records run, decision and audit event together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import sqlalchemy as sa

from control_plane import clock, ids
from control_plane.audit import events
from control_plane.identity.principal import Principal
from control_plane.policies import records
from control_plane.policies.records import Judgement
from control_plane.policies.tasks import stored_session
from control_plane.runs import messages, queue_room, review_store, store
from control_plane.runs.errors import ChangedMeanwhile
from control_plane.runs.notices import Notices
from control_plane.runs.queries import Queries
from control_plane.runs.review import Approvals
from control_plane.stacks import snapshot
from control_plane.stacks.locks import require_not_locked_against
from control_plane.stacks.pinning import PinnedSource, SourcePins
from control_plane.stacks.snapshot import StackSnapshot
from control_plane.storage import requests
from control_plane.storage.database import Database
from interlock.v1 import run_pb2
from interlock.v1 import run_service_pb2 as rpc

_METHOD = "CreateTask"
_ATTEMPTS = 4


class TaskGuard(Protocol):
    """Access and task policies, asked together."""

    async def judge_task(
        self, principal: Principal, stack: StackSnapshot, command: str, *, policies_version: int
    ) -> Judgement:
        """Returns where the task is allowed. Denials and failures are recorded.

        `policies_version` is that of the moment when the stack was read.

        Raises:
            NotFound, NotAllowed: access policies.
            TaskDenied: task policies.
            EvaluationFailed, OpaUnavailable: no answer, so no.
        """


class TaskCreation:
    """Creates tasks."""

    def __init__(
        self,
        db: Database,
        guard: TaskGuard,
        pins: SourcePins,
        queries: Queries,
        notices: Notices,
        approvals: Approvals,
    ) -> None:
        self._db = db
        self._guard = guard
        self._pins = pins
        self._queries = queries
        self._notices = notices
        self._approvals = approvals

    async def create(self, principal: Principal, request: rpc.CreateTaskRequest) -> run_pb2.Run:
        """As RunService.CreateTask says."""
        for _ in range(_ATTEMPTS):
            found = await self._db.read(lambda tx: _look(tx, principal, request))
            if isinstance(found, str):
                return await self._queries.load(found)
            stack = found.stack
            judgement = await self._guard.judge_task(
                principal, stack, request.command, policies_version=found.policies_version
            )
            require_not_locked_against(principal, stack)
            source = await self._pins.pin(stack)
            task = _Task(principal, request, stack, judgement, source)
            created = await self._db.write(task.record)
            if created is None:
                continue
            self._notices.queue_changed(stack.id)
            if created.HasField("queue_deadline"):
                self._notices.wake_queue_timeouts()
            if not judgement.needs_approval:
                return created
            await self._approvals.settle(created.id)
            return await self._queries.load(created.id)
        raise ChangedMeanwhile(request.stack_id)


@dataclass(frozen=True, slots=True)
class _Basis:
    """What a decision is made on, read at one moment."""

    stack: StackSnapshot
    policies_version: int


@dataclass(frozen=True, slots=True)
class _Task:
    principal: Principal
    request: rpc.CreateTaskRequest
    stack: StackSnapshot
    judgement: Judgement
    source: PinnedSource

    def record(self, connection: sa.Connection) -> run_pb2.Run | None:
        """One transaction. None where what was judged does not stand any more: judge again."""
        known = requests.find(connection, self.principal.id, _METHOD, self.request.request_id, self.request)
        if known is not None:
            return messages.stored(connection, known)
        if snapshot.version_of(connection, self.stack.id) != self.stack.version:
            return None
        if records.policies_version(connection) != self.judgement.policies_version:
            return None
        deadline = queue_room.take(connection, self.stack.id, self.principal.login, self.request)
        run_id = ids.new_id("run")
        row, change = self._insert(connection, run_id, deadline)
        records.insert(connection, self.judgement.record, run_id=run_id)
        events.record(
            connection,
            self.principal,
            "task.created",
            "run",
            run_id,
            stack_id=self.stack.id,
            details={
                "command": self.request.command,
                "decision_id": self.judgement.record.id,
                "skip_initialization": self.request.skip_initialization,
            },
        )
        requests.remember(
            connection, self.principal.id, _METHOD, self.request.request_id, self.request, run_id
        )
        return messages.to_run(row, history=[change])

    def _insert(
        self, connection: sa.Connection, run_id: str, deadline: int | None
    ) -> tuple[sa.Row[Any], sa.Row[Any, Any, Any]]:
        now = clock.now_us()
        values = {
            "id": run_id,
            "stack_id": self.stack.id,
            "type": "TASK",
            "command": self.request.command,
            "skip_initialization": self.request.skip_initialization,
            "creator_id": self.principal.id,
            "creator_login": self.principal.login,
            "creator": self.principal.to_caller().SerializeToString(deterministic=True),
            "pool_id": self.stack.pool.id,
            "decision_id": self.judgement.record.id,
            "commit_hash": self.source.commit_hash,
            "commit_ref": self.source.commit_ref,
            "source_sha256": self.source.source_sha256,
            "source_size_bytes": self.source.source_size_bytes,
            "queue_deadline": deadline,
            "created_at": now,
            "updated_at": now,
        }
        if not self.judgement.needs_approval:
            return store.insert_queued(connection, values, "allowed by policy")
        run = store.insert_pending_review(connection, values, "allowed by policy; approval policies apply")
        review_store.begin(connection, run[0].id, stored_session(self.principal))
        return run


def _look(connection: sa.Connection, principal: Principal, request: rpc.CreateTaskRequest) -> str | _Basis:
    """The id of the run that this request made before, or what to judge it by."""
    known = requests.find(connection, principal.id, _METHOD, request.request_id, request)
    if known is not None:
        return known
    return _Basis(snapshot.load(connection, request.stack_id), records.policies_version(connection))
