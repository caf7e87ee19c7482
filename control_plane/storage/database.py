"""Transactions. A unit is a plain function of a connection; it runs whole or not at all, and what it wrote is
durable when `write` returns. Units run in threads of their own, never on the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import sqlalchemy as sa

from control_plane.storage import postgresql, sqlite

T = TypeVar("T")
Unit = Callable[[sa.Connection], T]


class UnknownDatabase(Exception):
    """The address is of no database that Interlock speaks; the message says which do."""


class Database:
    """SQLite (one writer thread, grouped commits) or PostgreSQL (a transaction per unit).

    Raises `errors.DatabaseUnavailable` or `errors.DiskFull` from `read` and `write` where the database is at fault;
    what the unit itself raises comes through unchanged, and its changes are rolled back.
    """

    def __init__(self, url: str, *, readers: int = 2, writers: int = 8) -> None:
        self.url = parse(url)
        # Counts up with every `write` that was committed, and maybe with others.
        self.writes = 0
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self._backend: _Sqlite | _Postgresql
        if self.is_sqlite:
            self.engine = sqlite.make_engine(self.url, readers)
            self._backend = _Sqlite(self.engine, readers)
        else:
            self.engine = postgresql.make_engine(self.url, readers + writers)
            self._backend = _Postgresql(self.engine, readers, writers)

    async def read(self, unit: Unit[T]) -> T:
        """Runs `unit` in a read transaction, on one snapshot."""
        return await self._backend.read(unit)

    async def write(self, unit: Unit[T]) -> T:
        """Runs `unit` in a write transaction of its own; returns once it is durable.

        It may run more than once, where it lost a race for a row: it must do nothing but speak to the database.
        Cancelling the caller does not undo the unit: it may still be committed.
        """
        try:
            return await self._backend.write(unit)
        finally:
            self.writes += 1

    def close(self) -> None:
        """Finishes what was submitted and closes every connection. Blocks."""
        self._backend.shutdown()
        self.engine.dispose()


class _Sqlite:
    def __init__(self, engine: sa.Engine, readers: int) -> None:
        self._engine = engine
        self._readers = ThreadPoolExecutor(readers, thread_name_prefix="db-read")
        self._writer = sqlite.GroupWriter(engine)

    async def read(self, unit: Unit[T]) -> T:
        return await asyncio.wrap_future(self._readers.submit(sqlite.run_read, self._engine, unit))

    async def write(self, unit: Unit[T]) -> T:
        return await asyncio.wrap_future(self._writer.submit(unit))

    def shutdown(self) -> None:
        self._writer.shutdown()
        self._readers.shutdown()


class _Postgresql:
    def __init__(self, engine: sa.Engine, readers: int, writers: int) -> None:
        self._transactions = postgresql.Transactions(engine, readers=readers, writers=writers)

    async def read(self, unit: Unit[T]) -> T:
        return await self._answer(self._transactions.read(unit))

    async def write(self, unit: Unit[T]) -> T:
        return await self._answer(self._transactions.write(unit))

    async def _answer(self, future: Future[T]) -> T:
        answer = asyncio.wrap_future(future)
        waited_s = 0.0
        try:
            while not (await asyncio.wait({answer}, timeout=postgresql.SILENCE_S))[0]:
                waited_s += postgresql.SILENCE_S
                self._transactions.give_up(future, waited_s)
        except BaseException:
            answer.cancel()
            raise
        return answer.result()

    def shutdown(self) -> None:
        self._transactions.shutdown()


def parse(url: str) -> sa.URL:
    """
    Raises:
        UnknownDatabase: it is no URL, of another database, or has its password where it would be shown.
    """
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError as error:
        raise UnknownDatabase("it is no URL; see docs/operating.md for how it looks") from error
    if "password" in parsed.query:
        # In errors, and in the arguments of pg_dump, only the other place is left out.
        raise UnknownDatabase(
            f"write the password before the host: {postgresql.DRIVER}://USER:PASSWORD@HOST/DATABASE"
        )
    match parsed.drivername:
        case "sqlite" | postgresql.DRIVER:
            return parsed
        case "postgresql" | "postgres":
            return parsed.set(drivername=postgresql.DRIVER)
        case other:
            raise UnknownDatabase(
                f"{other} is not spoken here: it is sqlite:///FILE or {postgresql.DRIVER}://…"
            )
