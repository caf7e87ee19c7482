"""Seals events into the hash chain, soon after they were written and out of the way of who wrote them.

Kept over restarts: what was not sealed waits in the database. Of several control planes one seals at a time; even
without that each sequence can be taken once.
"""

from __future__ import annotations

import asyncio
from typing import Final

import sqlalchemy as sa
import structlog

from control_plane import errors
from control_plane.audit import chain, store
from control_plane.storage.database import Database

log = structlog.get_logger(__name__)

# Half of the second that is promised; a look costs a fifth of a millisecond.
INTERVAL_S: Final = 0.5
# Another control plane that ended in the middle may have left some.
LOOK_ANYWAY_S: Final = 10.0
# Few enough that who writes meanwhile waits some milliseconds at most.
BATCH_EVENTS: Final = 500


class LogSealer:
    def __init__(self, db: Database, *, interval_s: float = INTERVAL_S) -> None:
        self._db = db
        self._interval_s = interval_s
        self._seen_writes = -1
        self._idle_s = 0.0

    async def run(self) -> None:
        """Seals until it is cancelled. A database that does not answer is asked again at the next turn."""
        while True:
            try:
                await self._look()
            except errors.DomainError as error:
                log.warning("audit.sealing_failed", cause=error.message)
            except sa.exc.IntegrityError as error:
                log.warning("audit.sealing_collided", cause=str(error.orig))
            await asyncio.sleep(self._interval_s)

    async def _look(self) -> None:
        """Asks the database only where something was written here; now and then also for what others left."""
        self._idle_s += self._interval_s
        writes = self._db.writes
        if writes != self._seen_writes or self._idle_s >= LOOK_ANYWAY_S:
            await self.seal_all()
            self._seen_writes, self._idle_s = writes, 0.0

    async def seal_all(self) -> int:
        """Seals what there is and says how many events that were.

        Raises:
            sqlalchemy.exc.IntegrityError: another control plane did so at the same moment.
        """
        sealed = 0
        while await self._db.read(store.has_unsealed) and (count := await self._db.write(_seal_batch)):
            sealed += count
        return sealed


def _seal_batch(connection: sa.Connection) -> int:
    if not store.may_seal(connection):
        return 0
    events = store.unsealed(connection, BATCH_EVENTS)
    if events:
        store.add_seals(connection, list(chain.seal(store.head(connection), events)))
    return len(events)
