"""PostgreSQL: a transaction per unit, in threads. A unit that lost a race for a row, or met a connection that a
restart of the database had cut, is run again; one whose commit may have happened is not."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError

from control_plane import errors
from control_plane.storage import faults

T = TypeVar("T")
Unit = Callable[[sa.Connection], T]

DRIVER: Final = "postgresql+psycopg"
# Nothing was heard of the database for so long, though units wait: it hangs, and callers are told so at once.
SILENCE_S: Final = 10.0
_PROBE_S: Final = 1.0
_ATTEMPTS: Final = 5
# Units that lost a race wait a little longer each time, so that the other one is through.
_PAUSE_S: Final = 0.01
_UNKNOWN: Final = "whether this change was made is not known: repeat the call with the same request_id"
_CONNECT: Final = {
    "application_name": "interlock",
    "connect_timeout": 5,
    # A database whose machine is gone is noticed by the kernel.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": 10_000,
    # As long as SQLite waits for its file; and who died within a transaction holds its rows no longer than that.
    "options": "-c lock_timeout=10s -c idle_in_transaction_session_timeout=60s",
}


def make_engine(url: sa.URL, connections: int) -> sa.Engine:
    return sa.create_engine(url, pool_size=connections, max_overflow=0, connect_args=_CONNECT)


class Transactions:
    """Runs units in threads, and knows when the database was last heard of."""

    def __init__(self, engine: sa.Engine, *, readers: int, writers: int) -> None:
        self._engine = engine
        # One snapshot for all statements of a unit, as SQLite gives it.
        self._snapshots = engine.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )
        self._readers = ThreadPoolExecutor(readers, thread_name_prefix="db-read")
        self._writers = ThreadPoolExecutor(writers, thread_name_prefix="db-write")
        self._heard_at = time.monotonic()
        self._probed_at = 0.0
        self._is_silent = False

    def read(self, unit: Unit[T]) -> Future[T]:
        """Raises DatabaseUnavailable at once where the database hangs."""
        self._refuse_if_silent()
        return self._readers.submit(self._run, self._read, unit)

    def write(self, unit: Unit[T]) -> Future[T]:
        """As `read`."""
        self._refuse_if_silent()
        return self._writers.submit(self._run, self._write, unit)

    def give_up(self, future: Future[Any], waited_s: float) -> None:
        """Raises DatabaseUnavailable where a unit has waited for so long and nobody had an answer meanwhile."""
        if waited_s < SILENCE_S or time.monotonic() - self._heard_at < SILENCE_S:
            return
        self._is_silent = True
        outcome = "nothing was changed, try again" if future.cancel() else _UNKNOWN
        raise errors.DatabaseUnavailable(f"the database has not answered for {SILENCE_S:.0f} s; {outcome}")

    def shutdown(self) -> None:
        self._writers.shutdown()
        self._readers.shutdown()

    def _refuse_if_silent(self) -> None:
        """One unit a second still tries, so that the database's return is noticed."""
        now = time.monotonic()
        if self._is_silent and now - self._probed_at < _PROBE_S:
            raise errors.DatabaseUnavailable("the database does not answer; nothing was changed, try again")
        self._probed_at = now

    def _run(self, how: Callable[[Unit[T]], T], unit: Unit[T]) -> T:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return how(unit)
            except IntegrityError:
                # Somebody else inserted the same key at the same moment: this time the unit sees that row and says so.
                if attempt > 1:
                    raise
            except DBAPIError as error:
                may_repeat = faults.lost_race(error) or (faults.lost_connection(error) and attempt == 1)
                if not may_repeat or attempt == _ATTEMPTS:
                    raise faults.translated(error) from error
                time.sleep(_PAUSE_S * (attempt - 1))
            finally:
                self._heard_at = time.monotonic()
                self._is_silent = False
        raise AssertionError("the last attempt returns or raises")

    def _read(self, unit: Unit[T]) -> T:
        with self._snapshots.connect() as connection:
            return unit(connection)

    def _write(self, unit: Unit[T]) -> T:
        with self._engine.connect() as connection:
            transaction = connection.begin()
            try:
                value = unit(connection)
            except BaseException as error:
                transaction.rollback()
                if isinstance(error, DBAPIError) and faults.is_standby(error):
                    raise errors.DatabaseUnavailable(
                        "the database is a standby; nothing was changed"
                    ) from error
                raise
            try:
                transaction.commit()
            except DBAPIError as error:
                if faults.lost_race(error) or isinstance(error, IntegrityError):
                    raise
                raise faults.translated(error, outcome=_UNKNOWN) from error
            return value
