"""Who may read the audit log, and whether it is intact."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from control_plane import errors
from control_plane.audit import store
from control_plane.audit.chain import Fault, Head, Verifier
from control_plane.audit.store import Filter, Listed
from control_plane.identity.principal import Principal
from control_plane.storage.database import Database, Unit

# Some ten milliseconds of a reader thread each.
BATCH_SEALS: Final = 2000


@dataclass(frozen=True, slots=True)
class Verification:
    fault: Fault | None
    verified: int
    unsealed: int
    head: Head


class AuditLog:
    """Reading and checking; writing is events.record, in the transaction of the change."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def page(self, caller: Principal, wanted: Filter, *, before: str, limit: int) -> list[Listed]:
        """Newest first, from the one after id `before` on."""
        caller.require_admin("read the audit log")
        return await self._db.read(
            lambda connection: store.page(connection, wanted, before=before, limit=limit)
        )

    async def verify(self, caller: Principal, known_head: Head | None) -> Verification:
        """Reads the whole log, in portions, so that others read and write meanwhile.

        Raises:
            NotAllowed: the caller is no admin.
            InvalidField: there can be no such head.
        """
        caller.require_admin("verify the audit log")
        if known_head is not None and known_head.sequence < 1:
            raise errors.InvalidField("known_head.sequence", "must be 1 or more, as in a head that was noted")
        verifier = Verifier(known_head)
        # What is sealed while this runs is for the next time: it always ends.
        end = await self._db.read(store.head)
        while verifier.head.sequence < end.sequence and await self._db.read(_verify_batch(verifier)):
            pass
        fault = verifier.finish() or await self._db.read(_unsealable(verifier.head))
        unsealed = await self._db.read(store.count_unsealed)
        return Verification(fault, verifier.head.sequence, unsealed, end if fault else verifier.head)


def verify_by(
    read: Callable[[Unit[Any]], Any], known_head: Head | None, on_batch: Callable[[int], None]
) -> Verification:
    """As `AuditLog.verify`, without a server: `read` runs a unit. Tells `on_batch` how many more events it has checked.

    Blocks.
    """
    verifier = Verifier(known_head)
    end = read(store.head)
    checked, goes_on = 0, True
    while goes_on and verifier.head.sequence < end.sequence:
        goes_on = read(_verify_batch(verifier))
        on_batch(verifier.head.sequence - checked)
        checked = verifier.head.sequence
    fault = verifier.finish() or read(_unsealable(verifier.head))
    return Verification(
        fault, verifier.head.sequence, read(store.count_unsealed), end if fault else verifier.head
    )


def _verify_batch(verifier: Verifier) -> Unit[bool]:
    """Hashes in the reader's thread, not on the event loop. False at a fault, or where there is nothing more."""

    def unit(connection: sa.Connection) -> bool:
        batch = store.log_after(connection, verifier.head.sequence, BATCH_SEALS)
        return bool(batch) and all(verifier.take(seal, event) for seal, event in batch)

    return unit


def _unsealable(head: Head) -> Unit[Fault | None]:
    """Events that can never come under a seal: what comes after `head` is damaged then."""

    def unit(connection: sa.Connection) -> Fault | None:
        if lost := store.first_lost(connection):
            return Fault(head.sequence + 1, f"event {lost} was taken out before it was sealed")
        if orphan := store.first_orphan(connection):
            return Fault(
                head.sequence + 1, f"event {orphan} has no seal and waits for none: its seal was taken out"
            )
        return None

    return unit
