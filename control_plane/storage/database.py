"""Transactions. A unit is a plain function of a connection; it runs whole or not at all, and what it wrote is
durable when `write` returns. Units run in threads of their own, never on the event loop."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import DBAPIError, OperationalError

from control_plane import errors

T = TypeVar("T")
Unit = Callable[[sa.Connection], T]

# Units that wait while another commit is being made durable share the next one.
MAX_GROUP = 64
_BUSY_TIMEOUT_MS = 10_000

log = structlog.get_logger(__name__)


class Database:
    """SQLite (one writer thread, grouped commits) or any other engine of SQLAlchemy (a transaction per unit).

    Raises `errors.DatabaseUnavailable` or `errors.DiskFull` from `read` and `write` where the database is at fault;
    what the unit itself raises comes through unchanged, and its changes are rolled back.
    """

    def __init__(self, url: str, *, readers: int = 2, writers: int = 8) -> None:
        self.is_sqlite = url.startswith("sqlite")
        self.engine = (
            _sqlite_engine(url, readers)
            if self.is_sqlite
            else sa.create_engine(url, pool_size=readers + writers, pool_pre_ping=True)
        )
        self._readers = ThreadPoolExecutor(readers, thread_name_prefix="db-read")
        self._writer: _GroupWriter | ThreadPoolExecutor
        if self.is_sqlite:
            self._writer = _GroupWriter(self.engine)
        else:
            self._writer = ThreadPoolExecutor(writers, thread_name_prefix="db-write")

    async def read(self, unit: Unit[T]) -> T:
        """Runs `unit` in a read transaction."""
        return await asyncio.wrap_future(self._readers.submit(_run_read, self.engine, unit))

    async def write(self, unit: Unit[T]) -> T:
        """Runs `unit` in a write transaction of its own; returns once it is durable.

        Cancelling the caller does not undo the unit: it may still be committed.
        """
        if isinstance(self._writer, _GroupWriter):
            return await asyncio.wrap_future(self._writer.submit(unit))
        return await asyncio.wrap_future(self._writer.submit(_run_write, self.engine, unit))

    def close(self) -> None:
        """Finishes what was submitted and closes every connection. Blocks."""
        if isinstance(self._writer, _GroupWriter):
            self._writer.close()
        else:
            self._writer.shutdown()
        self._readers.shutdown()
        self.engine.dispose()


class _GroupWriter:
    """The one writer of a SQLite database. Units that queue up share a commit, each in a savepoint."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._queue: queue.SimpleQueue[tuple[Unit[Any], Future[Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="db-write", daemon=True)
        self._thread.start()

    def submit(self, unit: Unit[T]) -> Future[T]:
        future: Future[T] = Future()
        self._queue.put((unit, future))
        return future

    def close(self) -> None:
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (first := self._queue.get()) is not None:
            group = [first]
            closing = False
            while len(group) < MAX_GROUP and not self._queue.empty():
                item = self._queue.get()
                if item is None:
                    closing = True
                    break
                group.append(item)
            self._commit(group)
            if closing:
                return

    def _commit(self, group: Sequence[tuple[Unit[Any], Future[Any]]]) -> None:
        outcomes: list[tuple[Any, BaseException | None]] = []
        try:
            with self._engine.connect() as connection:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                try:
                    for unit, _ in group:
                        outcomes.append(_attempt(connection, unit, alone=len(group) == 1))
                except BaseException:
                    # SQLite has done so already where the disk is full, and that must stay the error.
                    with suppress(OperationalError):
                        connection.exec_driver_sql("ROLLBACK")
                    raise
                if len(group) == 1 and outcomes[0][1] is not None:
                    connection.exec_driver_sql("ROLLBACK")
                else:
                    connection.exec_driver_sql("COMMIT")
        # A boundary: whatever broke the transaction is handed to every caller in it, none is left waiting.
        except BaseException as error:  # noqa: BLE001
            outcomes = [(None, _translated(error))] * len(group)
        for (_, future), (value, failure) in zip(group, outcomes, strict=True):
            if not future.set_running_or_notify_cancel():
                continue
            if failure is not None:
                future.set_exception(failure)
            else:
                future.set_result(value)


def _attempt(connection: sa.Connection, unit: Unit[Any], *, alone: bool) -> tuple[Any, BaseException | None]:
    if not alone:
        connection.exec_driver_sql("SAVEPOINT unit")
    try:
        value = unit(connection)
    # A boundary: the unit's own error belongs to its caller alone. An engine fault breaks the whole group.
    except Exception as error:
        if isinstance(error, OperationalError):
            raise
        if not alone:
            connection.exec_driver_sql("ROLLBACK TO unit")
            connection.exec_driver_sql("RELEASE unit")
        return None, error
    if not alone:
        connection.exec_driver_sql("RELEASE unit")
    return value, None


def _run_read(engine: sa.Engine, unit: Unit[T]) -> T:
    try:
        with engine.connect() as connection:
            if engine.dialect.name == "sqlite":
                connection.exec_driver_sql("BEGIN")
            try:
                return unit(connection)
            finally:
                if engine.dialect.name == "sqlite":
                    connection.exec_driver_sql("ROLLBACK")
    except DBAPIError as error:
        raise _translated(error) from error


def _run_write(engine: sa.Engine, unit: Unit[T]) -> T:
    try:
        try:
            with engine.begin() as connection:
                return unit(connection)
        except sa.exc.IntegrityError:
            # Somebody else inserted the same key at the same moment: this time the unit sees that row and says so.
            with engine.begin() as connection:
                return unit(connection)
    except DBAPIError as error:
        raise _translated(error) from error


def _translated(error: BaseException) -> BaseException:
    if not isinstance(error, OperationalError):
        return error
    log.error("database.failed", error=str(error.orig))
    if "full" in str(error.orig):
        return errors.DiskFull("the database's disk is full; nothing was changed")
    return errors.DatabaseUnavailable(
        f"the database does not answer ({error.orig}); nothing was changed, try again"
    )


def _sqlite_engine(url: str, readers: int) -> sa.Engine:
    engine = sa.create_engine(
        url,
        pool_size=readers + 1,
        max_overflow=0,
        connect_args={"isolation_level": None, "check_same_thread": False},
    )

    @sa.event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: object) -> None:
        # FULL: a commit is on the disk when it returns (https://www.sqlite.org/pragma.html#pragma_synchronous).
        for pragma in (
            f"busy_timeout={_BUSY_TIMEOUT_MS}",
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
        ):
            connection.execute(f"PRAGMA {pragma}")

    return engine
