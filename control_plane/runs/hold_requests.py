"""AcquireSlot's first step: a hold in the queue. Access policies first, outside any transaction; then one transaction,
which checks that what was judged still stands and records hold and audit event together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from control_plane import clock, ids
from control_plane.audit import events
from control_plane.identity.principal import Principal
from control_plane.policies import records
from control_plane.runs import holds, queue_room, store
from control_plane.runs.errors import ChangedMeanwhile
from control_plane.runs.notices import Notices
from control_plane.stacks import snapshot
from control_plane.stacks.access import Guard
from control_plane.stacks.locks import require_not_locked_against
from control_plane.stacks.snapshot import StackSnapshot
from control_plane.storage import requests
from control_plane.storage.database import Database
from control_plane.storage.shared_clock import now_us
from interlock.v1 import slot_service_pb2 as rpc

_METHOD: Final = "AcquireSlot"
_ATTEMPTS: Final = 4


class HoldRequests:
    """Queues holds."""

    def __init__(self, db: Database, guard: Guard, notices: Notices) -> None:
        self._db = db
        self._guard = guard
        self._notices = notices

    async def ask(self, principal: Principal, request: rpc.AcquireSlotRequest) -> str:
        """The id of the hold that this request makes, or made before."""
        for _ in range(_ATTEMPTS):
            found = await self._db.read(lambda tx: _look(tx, principal, request))
            if isinstance(found, str):
                return found
            await self._guard.require_write(principal, found.stack)
            require_not_locked_against(principal, found.stack)
            run_id = await self._db.write(_Request(principal, request, found).record)
            if run_id is not None:
                self._notices.queue_changed(request.stack_id)
                self._notices.wake_queue_timeouts()
                return run_id
        raise ChangedMeanwhile(request.stack_id)


@dataclass(frozen=True, slots=True)
class _Basis:
    """What was judged, read at one moment."""

    stack: StackSnapshot
    policies_version: int


@dataclass(frozen=True, slots=True)
class _Request:
    principal: Principal
    request: rpc.AcquireSlotRequest
    basis: _Basis

    def record(self, connection: sa.Connection) -> str | None:
        """One transaction. None where what was judged does not stand any more: judge again."""
        principal, request, stack = self.principal, self.request, self.basis.stack
        known = requests.find(connection, principal.id, _METHOD, request.request_id, request)
        if known is not None:
            return known
        if snapshot.version_of(connection, stack.id) != stack.version:
            return None
        if records.policies_version(connection) != self.basis.policies_version:
            return None
        deadline = queue_room.take(connection, stack.id, principal.login, request)
        run_id = ids.new_id("run")
        has_lease = request.HasField("lease")
        lease_us = clock.from_duration(request.lease) if has_lease else holds.DEFAULT_LEASE_US
        now = clock.now_us()
        store.insert_queued(
            connection,
            {
                "id": run_id,
                "stack_id": stack.id,
                "type": holds.HOLD,
                "command": "",
                "skip_initialization": False,
                "creator_id": principal.id,
                "creator_login": principal.login,
                "creator": principal.to_caller().SerializeToString(deterministic=True),
                "pool_id": stack.pool.id,
                "decision_id": "",
                "queue_deadline": deadline,
                "purpose": request.purpose,
                "lease_us": lease_us,
                "lease_until": now_us(connection) + holds.WAIT_US,
                "release_on_expiry": request.release_on_expiry,
                "created_at": now,
                "updated_at": now,
            },
            f"the slot was asked for by {principal.login}",
        )
        events.record(
            connection, principal, "hold.asked", "run", run_id, stack_id=stack.id,
            details={
                "purpose": request.purpose,
                "lease_s": lease_us / 1e6,
                "release_on_expiry": request.release_on_expiry,
            },
        )  # fmt: skip
        requests.remember(connection, principal.id, _METHOD, request.request_id, request, run_id)
        return run_id


def _look(connection: sa.Connection, principal: Principal, request: rpc.AcquireSlotRequest) -> str | _Basis:
    """The id of the hold that this request asked for before, or what to judge it by."""
    known = requests.find(connection, principal.id, _METHOD, request.request_id, request)
    if known is not None:
        return known
    return _Basis(snapshot.load(connection, request.stack_id), records.policies_version(connection))
