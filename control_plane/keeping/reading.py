"""Reading a database without serving it: of the installation as it lives, or a copy that nobody writes to."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import sqlalchemy as sa

from control_plane.keeping import store
from control_plane.keeping.errors import DatabaseUnfit
from control_plane.keeping.ground import Ground
from control_plane.keeping.wanted import Wanted
from control_plane.storage import shape
from control_plane.storage.database import Unit

# Runs a unit on a snapshot.
Read = Callable[[Unit[Any]], Any]

_BUSY_S: Final = 30.0


@contextmanager
def live(ground: Ground) -> Iterator[Read]:
    """The installation's database; each unit sees a snapshot of its own.

    Raises:
        DatabaseUnfit: it is not there, or not in the shape that this release has.
    """
    with opened(ground) as engine:
        read = reader(engine)
        require_shape(
            read, str(ground.sqlite_file) if ground.is_sqlite else ground.database_url.render_as_string()
        )
        yield read


@contextmanager
def copy(file: Path) -> Iterator[Read]:
    """A copy on SQLite. Nothing beside it is made, and nothing in it is changed."""
    with _engine_of(lambda: connect_sqlite(file, "mode=ro&immutable=1")) as engine:
        yield reader(engine)


@contextmanager
def opened(ground: Ground) -> Iterator[sa.Engine]:
    """Raises DatabaseUnfit where there is none."""
    if ground.is_sqlite:
        file = ground.sqlite_file
        if not file.exists():
            raise DatabaseUnfit(
                f"there is no database at {file}: set INTERLOCK_DATA_DIR or INTERLOCK_DATABASE_URL as for the server"
            )
        with _engine_of(lambda: connect_sqlite(file, "mode=rw")) as engine:
            yield engine
        return
    try:
        engine = sa.create_engine(ground.database_url, connect_args={"connect_timeout": 10})
    except ModuleNotFoundError as error:
        raise DatabaseUnfit(
            "PostgreSQL's driver is not installed: pip install 'interlock[server,postgres]'"
        ) from error
    try:
        yield engine
    finally:
        engine.dispose()


def reader(engine: sa.Engine) -> Read:
    """Each unit in a read transaction of its own."""
    if engine.dialect.name != "sqlite":
        engine = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)

    def read(unit: Unit[Any]) -> Any:
        with engine.connect() as connection:
            if connection.dialect.name == "sqlite":
                connection.exec_driver_sql("BEGIN")
            return unit(connection)

    return read


def require_shape(read: Read, place: str) -> str:
    """The database's revision, which is this release's.

    Raises:
        DatabaseUnfit: it is not.
    """
    revision = read(store.revision)
    if revision is None:
        raise DatabaseUnfit(f"{place} is not a database of Interlock: it has none of its tables")
    if revision == shape.newest():
        return str(revision)
    if is_known(revision):
        raise DatabaseUnfit(
            f"{place} has the shape of an older Interlock (revision {revision}): use the release that wrote it, "
            "or start this one's server once, which brings it forward"
        )
    raise DatabaseUnfit(
        f"{place} has the shape of a newer Interlock (revision {revision}), unknown to this one: use that release"
    )


def is_known(revision: str) -> bool:
    """This release can bring it forward, or need not."""
    return revision in shape.revisions()


def connect_sqlite(file: Path, options: str) -> sqlite3.Connection:
    """A file that must be there: SQLite would make an empty one."""
    uri = f"file:{quote(str(file))}?{options}"
    return sqlite3.connect(uri, uri=True, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)


@contextmanager
def _engine_of(connect: Callable[[], sqlite3.Connection]) -> Iterator[sa.Engine]:
    engine = sa.create_engine("sqlite://", creator=connect, poolclass=sa.NullPool)
    try:
        yield engine
    finally:
        engine.dispose()


def all_outputs(read: Read) -> Iterator[Wanted]:
    """What must be stored of every run, a page at a time."""
    after_id = ""
    while page := read(partial(store.outputs, after_id=after_id)):
        yield from page
        after_id = page[-1].run_id
