"""Which master key a database belongs to: its fingerprint is recorded at the first start, and no other key is taken."""

from __future__ import annotations

import asyncio
from pathlib import Path

import sqlalchemy as sa

from control_plane import clock
from control_plane.keys import MasterKey, MasterKeyError
from control_plane.storage.database import Database
from control_plane.storage.tables import installation

_FIND = sa.select(installation.c.key_fingerprint)


async def master_key(db: Database, *, given: str, file: Path) -> MasterKey:
    """The key `given` in hex, else that in the file; the file is made where neither key nor database were there.

    Raises:
        MasterKeyError: the key is not to be had, or not the one that this database's secrets are sealed under.
    """
    is_new = await db.read(_find) is None
    master = MasterKey.from_hex(given) if given else await asyncio.to_thread(_of_file, file, may_make=is_new)
    if await db.write(lambda connection: _find_or_record(connection, master)) != master.fingerprint:
        raise MasterKeyError(
            f"the master key in {'INTERLOCK_MASTER_KEY' if given else file} is not the one that the secrets in the "
            "database are sealed under: put that one back, or start with another database"
        )
    return master


def _of_file(file: Path, *, may_make: bool) -> MasterKey:
    if not may_make and not file.exists():
        raise MasterKeyError(
            f"{file} is gone, and no other key opens the secrets in the database: "
            "put it back from its backup, or set INTERLOCK_MASTER_KEY"
        )
    return MasterKey.from_file(file)


def _find(connection: sa.Connection) -> str | None:
    return connection.execute(_FIND).scalar_one_or_none()


def _find_or_record(connection: sa.Connection, master: MasterKey) -> str:
    known = _find(connection)
    if known is not None:
        return known
    row = {"id": 1, "key_fingerprint": master.fingerprint, "recorded_at": clock.now_us()}
    connection.execute(sa.insert(installation), row)
    return master.fingerprint
