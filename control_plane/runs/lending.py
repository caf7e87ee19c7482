"""The slot lent to outsiders: waited for, offered, renewed, let go."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import sqlalchemy as sa

from control_plane import errors
from control_plane.identity.principal import Principal
from control_plane.runs import hold_store, holds, messages, store
from control_plane.runs.hold_leases import HoldLeases
from control_plane.runs.hold_requests import HoldRequests
from control_plane.runs.notices import Notices
from control_plane.runs.queries import Queries
from control_plane.runs.watch import Watches
from control_plane.storage.database import Database
from interlock.v1 import run_pb2
from interlock.v1 import run_service_pb2 as run_rpc
from interlock.v1 import slot_service_pb2 as rpc


class Lending:
    """Lends slots. A hold is offered by the replica that somebody waits at, so nobody is offered it who is gone."""

    def __init__(
        self,
        db: Database,
        requests: HoldRequests,
        queries: Queries,
        watches: Watches,
        leases: HoldLeases,
        notices: Notices,
    ) -> None:
        self._db = db
        self._requests = requests
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
        run_id = await self._requests.ask(principal, request)
        # A hold that was asked for before is attended to again only by who may still write.
        await recheck(run_id)
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
