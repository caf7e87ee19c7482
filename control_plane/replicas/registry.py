"""This control plane among the others: its sign of life, the end of those that give none, and whose runner is whose."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import sqlalchemy as sa
import structlog

from control_plane import ids
from control_plane.replicas import store
from control_plane.replicas.store import Claim, RemoteRunner
from control_plane.storage.database import Database
from control_plane.storage.shared_clock import now_us

# Of a runner's lease, which is 30 s by default: a sign of life every 5 s, and who gives none for 15 s is dead. With one
# round more until somebody looks, the runners of a replica that died are known to be gone after 20 s.
_BEATS_PER_LEASE: Final = 6
_DEAD_AFTER_BEATS: Final = 3
DEFAULT_LEASE_S: Final = 30.0
_FILE: Final = "replica.id"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Signs:
    """What a sign of life came to."""

    # False: the others had given this replica up, and its runners with it.
    was_known: bool
    # Runners of replicas that are gone.
    orphans: list[str] = field(default_factory=list)


class StorageApart(Exception):
    """Two replicas that could not read each other's outputs; the message says what to do."""

    def __init__(self, address: str) -> None:
        super().__init__(
            f"the control plane at {address} shares this database and keeps outputs and archives elsewhere: "
            "set INTERLOCK_SHARED_DIR, or INTERLOCK_OBJECT_STORE_URL, of both to one place that both can reach"
        )


class Registry:
    """One per control plane. On SQLite it is alone, and asks the database less."""

    def __init__(self, db: Database, *, address: str = "", lease_s: float = DEFAULT_LEASE_S) -> None:
        self._db = db
        self.beat_s = lease_s / _BEATS_PER_LEASE
        self._dead_after_us = int(self.beat_s * _DEAD_AFTER_BEATS * 1e6)
        self._address = address
        self._storage_id = ""
        self.is_alone = db.is_sqlite
        self.id = ids.new_id("rep")

    async def start(self, data_dir: Path, storage_id: str) -> list[str]:
        """Registers; returns the runners of whoever was here before: with SQLite everybody, else this folder's last
        replica, which is dead, since nobody else can hold the folder.

        Raises:
            StorageApart: another replica keeps outputs and archives elsewhere.
        """
        self._storage_id = storage_id
        file = data_dir / _FILE
        last_id = file.read_text().strip() if file.exists() else ""

        def unit(tx: sa.Connection) -> list[str]:
            others = store.others(tx, self.id)
            orphans = store.bury(tx, [other.id for other in others if self.is_alone or other.id == last_id])
            alive_since = now_us(tx) - self._dead_after_us
            for other in others:
                is_there = not self.is_alone and other.id != last_id and other.heartbeat_at > alive_since
                if is_there and other.storage_id != storage_id:
                    raise StorageApart(other.address)
            store.insert_replica(tx, self.id, self._address, storage_id)
            return orphans

        orphans = await self._db.write(unit)
        file.write_text(self.id + "\n")
        log.info("replica.registered", replica_id=self.id, orphans=len(orphans))
        return orphans

    async def give_sign(self) -> Signs:
        """A sign of life, and a look for those that give none."""

        def unit(tx: sa.Connection) -> Signs:
            at = store.beat(tx, self.id)
            if at is None:
                store.insert_replica(tx, self.id, self._address, self._storage_id)
                return Signs(was_known=False)
            gone = store.dead(tx, self.id, at - self._dead_after_us)
            orphans = store.bury(tx, gone)
            if gone:
                log.warning("replica.gone", replica_ids=gone, orphans=len(orphans))
            return Signs(was_known=True, orphans=orphans)

        return await self._db.write(unit)

    async def leave(self) -> None:
        """Says that this replica is gone, so that nobody waits for its signs."""

        def unit(tx: sa.Connection) -> None:
            store.bury(tx, [self.id])

        await self._db.write(unit)

    async def claim(
        self, runner_id: str, *, pool_id: str, capacity: int, boot_id: str, status: bytes
    ) -> Claim | None:
        """This replica is the one that the runner is connected to, from now on. None: see `store.claim`."""
        return await self._db.write(
            lambda tx: store.claim(
                tx, self.id, runner_id, pool_id=pool_id, capacity=capacity, boot_id=boot_id, status=status
            )
        )

    def let_go(self, tx: sa.Connection, runner_id: str, epoch: int, now_us: int) -> bool:
        """The stream has ended. False where the runner has connected again since."""
        return store.let_go(tx, self.id, runner_id, epoch, now_us)

    async def note_status(self, runner_id: str, epoch: int, status: bytes) -> None:
        """For the other replicas, which cannot see the stream."""
        if not self.is_alone:
            await self._db.write(lambda tx: store.note_status(tx, runner_id, epoch, status))

    def elsewhere(self, tx: sa.Connection, pool_id: str = "") -> list[RemoteRunner]:
        """Runners that are connected to other replicas; `pool_id` "" for all pools."""
        return [] if self.is_alone else store.elsewhere(tx, self.id, pool_id=pool_id)


def is_connected(tx: sa.Connection, runner_id: str, *, hold: bool = True) -> bool:
    """To any replica. `hold`: it stays so until the transaction ends."""
    found = store.find_connection(tx, runner_id, hold=hold)
    return found is not None and found.replica_id is not None


def is_nowhere_since(tx: sa.Connection, runner_id: str, since_us: int) -> bool:
    """Connected to no replica, from then on until this transaction ends."""
    found = store.find_connection(tx, runner_id, hold=True)
    return found is None or (found.replica_id is None and (found.lost_at or 0) <= since_us)
