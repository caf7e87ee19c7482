"""What the engine of the database says, in the words of callers: is it away, is its disk full, may a unit try again?"""

from __future__ import annotations

from typing import Final

import structlog
from sqlalchemy.exc import DBAPIError, OperationalError

from control_plane import errors

# https://www.postgresql.org/docs/current/errcodes-appendix.html
_DISK_FULL: Final = "53100"
_READ_ONLY: Final = "25006"
# Serialization failure and deadlock: nothing was changed, and the same unit may well succeed now.
_LOST_RACES: Final = frozenset({"40001", "40P01"})

log = structlog.get_logger(__name__)


def lost_race(error: DBAPIError) -> bool:
    """Another transaction was in the way; the unit may be run again at once."""
    return _sqlstate(error) in _LOST_RACES


def lost_connection(error: DBAPIError) -> bool:
    """The connection was dead, as all are after the database was started again."""
    return error.connection_invalidated


def translated(error: BaseException, *, outcome: str = "nothing was changed, try again") -> BaseException:
    """As callers see it: DatabaseUnavailable or DiskFull where the database is at fault, else `error` itself."""
    if not isinstance(error, OperationalError):
        return error
    cause = str(error.orig).strip()
    log.error("database.failed", error=cause)
    if _sqlstate(error) == _DISK_FULL or "disk is full" in cause:
        return errors.DiskFull("the database's disk is full; nothing was changed")
    return errors.DatabaseUnavailable(f"the database does not answer ({cause}); {outcome}")


def is_standby(error: DBAPIError) -> bool:
    """It takes no writes: after a failover, until the address leads to the new primary."""
    return _sqlstate(error) == _READ_ONLY


def _sqlstate(error: DBAPIError) -> str | None:
    return getattr(error.orig, "sqlstate", None)
