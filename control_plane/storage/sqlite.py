"""SQLite: one file, one process, one writer thread. Units that wait while another commit is made durable share the
next one, each in a savepoint."""

from __future__ import annotations

import fcntl
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from control_plane.storage import faults

T = TypeVar("T")
Unit = Callable[[sa.Connection], T]

MAX_GROUP: Final = 64
# Only a backup or somebody's own tool ever holds the file; a caller is told at once, and tries again.
_BUSY_TIMEOUT_MS: Final = 1_000
# Of several that open a new file at once, one makes it a WAL file and the others wait for its disk.
_OPEN_TIMEOUT_MS: Final = 30_000


class FileInUse(Exception):
    """Another control plane works on this file; the message says what to do."""


@contextmanager
def only_one(url: sa.URL) -> Iterator[None]:
    """Holds the database's file for this process. Two would each start the runs of the other's queue.

    Raises:
        FileInUse: another process holds it, from whichever folder it was started.
    """
    if not url.database or url.database == ":memory:":
        yield
        return
    file = Path(url.database).resolve()
    with file.with_name(f"{file.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise FileInUse(
                f"another control plane works on the SQLite file {file}; stop it, or give this one a file of its own "
                "(INTERLOCK_DATABASE_URL). Several control planes need PostgreSQL: see docs/scaling.md"
            ) from error
        yield


def make_engine(url: sa.URL, readers: int) -> sa.Engine:
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
            f"busy_timeout={_OPEN_TIMEOUT_MS}",
            "journal_mode=WAL",
            f"busy_timeout={_BUSY_TIMEOUT_MS}",
            "synchronous=FULL",
            "foreign_keys=ON",
        ):
            connection.execute(f"PRAGMA {pragma}")

    return engine


def run_read(engine: sa.Engine, unit: Unit[T]) -> T:
    """Runs `unit` on one snapshot of the database."""
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql("BEGIN")
            try:
                return unit(connection)
            finally:
                connection.exec_driver_sql("ROLLBACK")
    except sa.exc.DBAPIError as error:
        raise faults.translated(error) from error


class GroupWriter:
    """The one writer. What was submitted is run in order, each unit whole or not at all."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._queue: queue.SimpleQueue[tuple[Unit[Any], Future[Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="db-write", daemon=True)
        self._thread.start()

    def submit(self, unit: Unit[T]) -> Future[T]:
        future: Future[T] = Future()
        self._queue.put((unit, future))
        return future

    def shutdown(self) -> None:
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
            outcomes = [(None, faults.translated(error))] * len(group)
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
