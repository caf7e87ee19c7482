"""Ends runs that waited longer than they may: DISCARDED, with the reason. None of them had a runner."""

from __future__ import annotations

import asyncio
from typing import Final

import sqlalchemy as sa
import structlog

from control_plane import errors
from control_plane.runs import moves, store
from control_plane.runs.holds import HOLD
from control_plane.runs.notices import Notices
from control_plane.runs.states import WAITING, RunState
from control_plane.storage.database import Database
from control_plane.storage.outputs import StoredOutput
from control_plane.storage.shared_clock import now_us
from interlock.v1 import run_pb2

# Of a run that another replica has queued, which is gone since, nobody tells.
LOOK_S: Final = 15.0
_AT_MOST: Final = 100

log = structlog.get_logger(__name__)


class QueueTimeouts:
    """One per control plane. Several may work on one database: each run is ended once."""

    def __init__(self, db: Database, notices: Notices) -> None:
        self._db = db
        self._notices = notices
        self._awake = asyncio.Event()

    def wake(self) -> None:
        """A run was queued that may not wait for ever. Cheap; called from the event loop."""
        self._awake.set()

    async def serve(self) -> None:
        """Looks until cancelled. While the database is away, nothing ends."""
        while True:
            self._awake.clear()
            try:
                wait_s = await self.look()
            except errors.DomainError as error:
                log.warning("queue_timeouts.failed", cause=error.message)
                wait_s = LOOK_S
            try:
                async with asyncio.timeout(wait_s):
                    await self._awake.wait()
            except TimeoutError:
                continue

    async def look(self) -> float:
        """Ends what is over. Returns in how many seconds the next is, LOOK_S at most."""
        now, rows = await self._db.read(lambda tx: (now_us(tx), store.may_time_out(tx, _AT_MOST)))
        for row in rows:
            if row.queue_deadline > now:
                return min(LOOK_S, float(row.queue_deadline - now) / 1e6)
            stack_id = await self._db.write(lambda tx, run_id=row.id: _end(tx, run_id))  # type: ignore[misc]
            if stack_id is not None:
                log.info("run.queue_timeout", run_id=row.id, stack_id=stack_id)
                self._notices.run_moved(row.id)
                self._notices.queue_changed(stack_id)
        return 0.0 if len(rows) == _AT_MOST else LOOK_S


def _end(connection: sa.Connection, run_id: str) -> str | None:
    """The stack of the run that was ended; None where it has gone on, or may go on waiting."""
    run = store.find_to_move(connection, run_id)
    if run is None or RunState(run.state) not in WAITING or run.queue_deadline is None:
        return None
    if now_us(connection) < run.queue_deadline:
        return None
    may_wait_s = (run.queue_deadline - run.created_at) / 1e6
    what = "the slot had not come to it" if run.type == HOLD else "no runner had it"
    moves.end(
        connection,
        run,
        RunState.DISCARDED,
        f"{what} within {may_wait_s:.0f} s, which is as long as it may wait",
        failure=run_pb2.RUN_FAILURE_QUEUE_TIMEOUT,
        # One that was given back by its runner may have had output before.
        output=StoredOutput(run.output_size_bytes, run.output_sha256 or moves.NO_OUTPUT.sha256),
    )
    return str(run.stack_id)
