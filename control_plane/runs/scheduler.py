"""Takes slots: gives the runs whose turn it is, on stacks that are free, to runners with room. Woken, never polling."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import sqlalchemy as sa
import structlog

from control_plane import errors
from control_plane.keys import Sealer
from control_plane.limits.caps import Caps
from control_plane.pools.connections import Connections, HeldRun
from control_plane.queue import lanes
from control_plane.runs import assignments, moves, reach, store
from control_plane.runs.errors import FencedOut
from control_plane.runs.handing_out import Claim, Granted, HandingOut, Room
from control_plane.runs.holds import HOLD
from control_plane.runs.jobs import JobBuilder
from control_plane.runs.notices import Notices
from control_plane.runs.states import RunState
from control_plane.runs.turn_taking import TurnTaking
from control_plane.storage.database import Database
from interlock.v1 import runner_service_pb2 as rpc

# Claims in one transaction: measured best on SQLite and PostgreSQL (docs/decisions).
BATCH = 16
# Lanes that one transaction puts into the line where they belong, at most, so that others need not wait for it.
_MOVES = 64
_RETRY_S = 1.0

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Claims:
    """What one transaction comes to."""

    granted: list[Granted] = field(default_factory=list)
    # Lanes that were found where they do not belong: another look finds others in their place.
    lines_moved: int = 0
    made: list[Claim] = field(default_factory=list)


class Scheduler:
    """One per control plane. Several may run against one database: a slot is taken once."""

    def __init__(
        self, db: Database, connections: Connections, jobs: JobBuilder, sealer: Sealer, notices: Notices
    ) -> None:
        self._db = db
        self._connections = connections
        self._handing_out = HandingOut(jobs, sealer)
        self._notices = notices
        self._awake = asyncio.Event()
        # Claimed, and not yet given back, because their runners went away before they were sent.
        self._unsent: list[Claim] = []

    def wake(self) -> None:
        """There may be something to start. Cheap; called from the event loop."""
        self._awake.set()

    async def serve(self) -> None:
        """Dispatches until cancelled."""
        while True:
            await self._awake.wait()
            self._awake.clear()
            try:
                while await self._dispatch():
                    pass
            except errors.DomainError as error:
                log.error("scheduler.failed", error=str(error), retry_s=_RETRY_S)
                await asyncio.sleep(_RETRY_S)
                self._awake.set()

    async def _dispatch(self) -> bool:
        """Starts up to BATCH runs; True: there may be more to start at once."""
        await self._give_back_unsent()
        rooms = [
            Room(
                connection.runner_id,
                connection.pool_id,
                connection.boot_id,
                connection.machine_id,
                connection.free_capacity,
            )
            for connection in self._connections.all()
            if connection.free_capacity
        ]
        if not rooms:
            return False
        claims = await self._db.write(lambda connection: self._claim(connection, rooms))
        for claim in claims.made:
            if claim.assignment is not None and not self._send(claim, claim.assignment):
                self._unsent.append(claim)
            self._notices.run_moved(claim.run_id)
            self._notices.queue_changed(claim.stack_id)
        await self._give_back_unsent()
        return len(claims.made) == BATCH or claims.lines_moved > 0

    def _claim(self, connection: sa.Connection, found: Sequence[Room]) -> _Claims:
        # It counts them down, and is done once more from the start where the transaction lost a race.
        rooms = [replace(room) for room in found]
        # Held: of several schedulers one counts after the other, so that none starts more than a limit allows.
        caps = Caps.read(connection, hold=True)
        at_most = min(BATCH, sum(room.free for room in rooms))
        pool_ids = sorted({room.pool_id for room in rooms})
        claims = _Claims(self._claim_applies(connection, rooms, pool_ids, at_most, caps))
        for pool_id in pool_ids:
            of_pool = [room for room in rooms if room.pool_id == pool_id]
            self._claim_queued(connection, of_pool, caps, at_most, claims)
        claims.made = self._handing_out.hand_out(connection, claims.granted)
        return claims

    def _claim_queued(
        self, connection: sa.Connection, rooms: Sequence[Room], caps: Caps, at_most: int, claims: _Claims
    ) -> None:
        """Of one pool, in the order of turns, until there are `at_most` claims in all."""
        wanted = min(at_most - len(claims.granted), sum(room.free for room in rooms))
        if wanted <= 0:
            return
        turns = TurnTaking(connection, rooms[0].pool_id, caps, wanted)
        while wanted and claims.lines_moved < _MOVES and (found := turns.next()) is not None:
            # The run before the slot's change, as everybody who holds both; whoever has just discarded it is seen.
            run = store.find_to_claim(connection, found.contender.run_id)
            # A hold takes the slot by itself, once whoever waits for it is there (`holds.offer`).
            if run is None or RunState(run.state) is not RunState.QUEUED or run.type == HOLD:
                continue
            labels = store.labels(connection, run.stack_id) if caps.labels else []
            if caps.full_label(labels) is not None:
                # A limit was set since the lane was last put into a line.
                lanes.relabel(connection, run.stack_id, caps.labels.intersection(labels))
                claims.lines_moved += 1
                continue
            fence = store.take_slot_only(connection, run.stack_id, run.id)
            if fence is None:
                continue
            room = max(rooms, key=lambda room: room.free)
            claims.granted.append(Granted(run, fence, room))
            caps.started(room.pool_id, run.creator_login, labels)
            turns.served(found)
            room.free -= 1
            wanted -= 1
        turns.settle()

    def _claim_applies(
        self,
        connection: sa.Connection,
        rooms: Sequence[Room],
        pool_ids: Sequence[str],
        at_most: int,
        caps: Caps,
    ) -> list[Granted]:
        """Confirmed plans come first: they hold their slot already, and somebody waits for them."""
        granted: list[Granted] = []
        for row in store.to_apply(connection, pool_ids, BATCH):
            if len(granted) == at_most:
                break
            room = max((room for room in rooms if room.pool_id == row.pool_id), key=lambda room: room.free)
            # However many a limit holds back: those behind them are looked at, too.
            if room.free == 0 or caps.first_reached(room.pool_id, row.creator_login, row.labels) is not None:
                continue
            run = store.find_to_claim(connection, row.id)
            if run is None or RunState(run.state) is not RunState.CONFIRMED or run.assignment_id:
                continue
            fence = store.hold_on(connection, run)
            if fence is None:
                raise moves.SlotLost(f"{run.id} is CONFIRMED and does not hold the slot of {run.stack_id}")
            granted.append(Granted(run, fence, room))
            caps.started(room.pool_id, run.creator_login, row.labels)
            room.free -= 1
        return granted

    def _send(self, claim: Claim, assignment: rpc.Assignment) -> bool:
        """False where the runner takes no more work."""
        connection = self._connections.of_runner(claim.runner_id)
        if connection is None or not connection.takes_work:
            return False
        ref = assignment.assignment
        connection.active[ref.assignment_id] = HeldRun(
            claim.run_id, claim.stack_id, ref.fencing_token, claim.output_start
        )
        connection.send(rpc.ConnectResponse(assignment=assignment))
        return True

    async def _give_back_unsent(self) -> None:
        """Where it fails, it is tried again at the next look: nobody else knows of these runs."""
        unsent = tuple(self._unsent)
        if not unsent:
            return
        await self._db.write(lambda tx: _give_back(tx, unsent))
        self._unsent.clear()
        for claim in unsent:
            self._notices.run_moved(claim.run_id)
            self._notices.queue_changed(claim.stack_id)


def _give_back(connection: sa.Connection, unsent: Sequence[Claim]) -> None:
    for claim in unsent:
        assert claim.assignment is not None
        try:
            run = assignments.current(connection, claim.assignment.assignment, claim.runner_id)
        except FencedOut:
            # Its runner was back first, and said that it does not have the run.
            continue
        reach.give_up(connection, run, "the runner went away before it was sent the run")
