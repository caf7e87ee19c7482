"""The slot lent to outsiders: asked for, waited for, renewed, let go. Access policies first, outside any transaction;
then one transaction, which checks that what was judged still stands and records hold and audit event together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from control_plane import clock, errors, ids
from control_plane.audit import events
from control_plane.identity.principal import Principal
from control_plane.policies import records
from control_plane.runs import hold_store, holds, messages, queue_room, store
from control_plane.runs.errors import ChangedMeanwhile
from control_plane.runs.hold_leases import HoldLeases
from control_plane.runs.notices import Notices
from control_plane.runs.queries import Queries
from control_plane.runs.watch import Watches
from control_plane.stacks import snapshot
from control_plane.stacks.access import Guard
from control_plane.stacks.locks import require_not_locked_against
from control_plane.stacks.snapshot import StackSnapshot
from control_plane.storage import requests
from control_plane.storage.database import Database
from control_plane.storage.shared_clock import now_us
from interlock.v1 import run_pb2
from interlock.v1 import run_service_pb2 as run_rpc
from interlock.v1 import slot_service_pb2 as rpc

_METHOD: Final = "AcquireSlot"
_ATTEMPTS: Final = 4


class Lending:
    """Lends slots. A hold is offered by the replica that somebody waits at, so nobody is offered it who is gone."""

    def __init__(
        self,
        db: Database,
        guard: Guard,
        queries: Queries,
        watches: Watches,
        leases: HoldLeases,
        notices: Notices,
    ) -> None:
        self._db = db
        self._guard = guard
        self._queries = queries
        self._watches = watches
        self._leases = leases
        self._notices = notices

    async def acquire(
        self,
        principal: Principal,
        request: rpc.AcquireSlotRequest,
        recheck: Callable[[str], Awaitable[object]],
    ) -> AsyncIterator[run_pb2.Run]:
        """As SlotService.AcquireSlot says. `recheck` is awaited now and then with the run's id: it raises where the
        caller's token has ended or access was taken away."""
        run_id = await self._asked(principal, request)
        with self._leases.attended(run_id):
            told = None
            following = self._watches.watch(
                run_id, request.stack_id, 0, omit_output=True, recheck=lambda: recheck(run_id)
            )
            async with aclosing(following) as messages_:
                async for message in messages_:
                    assert isinstance(message, run_rpc.WatchRunResponse)
                    run = message.run
                    if run != told:
                        yield run
                        told = run
                    if run.state == run_pb2.RUN_STATE_QUEUED:
                        await self._offer(run)
                    elif run.state != run_pb2.RUN_STATE_READY:
                        return

    async def renew(self, principal: Principal, request: rpc.RenewSlotRequest) -> run_pb2.Run:
        """As SlotService.RenewSlot says."""
        await self._require_visible(principal, request.run_id)

        def unit(tx: sa.Connection) -> tuple[sa.Row[Any], bool, run_pb2.Run]:
            return *holds.renew(tx, principal, request), messages.stored(tx, request.run_id)

        before, has_moved, run = await self._db.write(unit)
        self._leases.begun(before.lease_us)
        if has_moved:
            self._tell(before)
        return run

    async def release(self, principal: Principal, request: rpc.ReleaseSlotRequest) -> run_pb2.Run:
        """As SlotService.ReleaseSlot says."""
        await self._require_visible(principal, request.run_id)
        before, has_ended = await self._db.write(lambda tx: holds.release(tx, principal, request))
        if has_ended:
            self._tell(before)
        return await self._queries.load(request.run_id)

    async def _asked(self, principal: Principal, request: rpc.AcquireSlotRequest) -> str:
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
                return run_id
        raise ChangedMeanwhile(request.stack_id)

    async def _offer(self, run: run_pb2.Run) -> None:
        """Offers the slot where it is the run's turn. Looked at first, so that not each who waits writes."""
        if not await self._db.read(lambda tx: hold_store.next_in_turn(tx, [run.id])):
            return
        if await self._db.write(lambda tx: holds.offer(tx, run.id)):
            self._leases.begun(holds.OFFER_US)
            self._notices.run_moved(run.id)
            self._notices.queue_changed(run.stack_id)

    async def _require_visible(self, principal: Principal, run_id: str) -> None:
        """Raises NotFound where the caller may not know of the run. An owner does, whatever policies say: renewing and
        letting go must not hang on OPA."""
        row = await self._db.read(lambda tx: store.find(tx, run_id))
        if row is None:
            raise errors.NotFound("run", run_id)
        if row.creator_id != principal.id:
            await self._queries.readable_row(principal, run_id)

    def _tell(self, run: sa.Row[Any]) -> None:
        self._notices.run_moved(run.id)
        self._notices.queue_changed(run.stack_id)


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
        # Its own stream says how long it waits.
        queue_room.take(connection, stack.id, principal.login)
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
