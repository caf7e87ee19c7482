"""Whole databases: copied as of one moment while others write, and put back. By SQLite itself, or by PostgreSQL's own
tools."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from control_plane.keeping import manifest, reading
from control_plane.keeping.errors import DatabaseUnfit, Refused
from control_plane.keeping.ground import Ground
from control_plane.keeping.progress import Progress
from control_plane.keeping.reading import Read
from control_plane.storage.database import Unit

SQLITE: Final = manifest.DATABASES["sqlite"]
POSTGRESQL: Final = manifest.DATABASES["postgresql"]
_LOOK_S: Final = 0.2
_EVERY_STEPS: Final = 100_000


def name(ground: Ground) -> str:
    """What the dump's file is called in a backup."""
    return SQLITE if ground.is_sqlite else POSTGRESQL


@contextmanager
def taken(ground: Ground, folder: Path, progress: Progress) -> Iterator[Read]:
    """Copies the database into `folder`. What is read in the block is as of the moment of the copy.

    Raises:
        DatabaseUnfit: it is not there, or has another shape than this release's.
        Refused: PostgreSQL's tools are missing, or failed.
    """
    progress.begin("database", 1)
    if ground.is_sqlite:
        with reading.live(ground):
            _vacuum_into(ground.sqlite_file, folder / SQLITE, progress)
        progress.end()
        with reading.copy(folder / SQLITE) as read:
            yield read
        return
    require_tools()
    with reading.live(ground), reading.opened(ground) as engine, _snapshot(engine) as (connection, snapshot):
        options = ["--format=custom", f"--snapshot={snapshot}", f"--file={folder / POSTGRESQL}"]
        _run("pg_dump", options, ground, folder / POSTGRESQL, progress)
        progress.end()

        def read(unit: Unit[Any]) -> Any:
            return unit(connection)

        yield read


def put_back_postgresql(ground: Ground, dump: Path, progress: Progress) -> None:
    """All of it in one transaction.

    Raises:
        Refused: pg_restore failed, and nothing was changed.
    """
    progress.begin("database", 1)
    options = ["--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges", str(dump)]
    _run("pg_restore", options, ground, None, progress)
    progress.end()


def require_tools() -> None:
    """Raises Refused where they are missing."""
    for tool in ("pg_dump", "pg_restore"):
        if shutil.which(tool) is None:
            raise Refused(
                f"{tool} is not on PATH: a database on PostgreSQL is copied by PostgreSQL's own tools. Install "
                "its client (postgresql-client on Debian), of the server's version or a newer one"
            )


def problem(file: Path, options: str) -> str:
    """The first fault that SQLite finds in this database; empty where it is whole."""
    connection = reading.connect_sqlite(file, options)
    try:
        answer = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.DatabaseError as error:
        return str(error)
    finally:
        connection.close()
    return "" if answer == "ok" else answer


def _vacuum_into(source: Path, target: Path, progress: Progress) -> None:
    connection = reading.connect_sqlite(source, "mode=rw")
    copied = 0

    def look() -> int:
        nonlocal copied
        size = target.stat().st_size if target.exists() else 0
        progress.add(size - copied, items=0)
        copied = size
        return 0

    connection.set_progress_handler(look, _EVERY_STEPS)
    try:
        connection.execute("VACUUM INTO ?", (str(target),))
    except sqlite3.DatabaseError as error:
        raise DatabaseUnfit(
            f"{source} cannot be copied ({error}): is there room for the copy, and is the database whole?"
        ) from error
    finally:
        connection.close()
    look()
    progress.add(0)
    if damage := problem(target, "mode=ro&immutable=1"):
        raise DatabaseUnfit(f"{source} is damaged: {damage}; restore it from an earlier backup")


@contextmanager
def _snapshot(engine: sa.Engine) -> Iterator[tuple[sa.Connection, str]]:
    """A moment that pg_dump and this connection see alike."""
    isolated = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    with isolated.connect() as connection:
        yield connection, str(connection.execute(sa.select(sa.func.pg_export_snapshot())).scalar_one())


def _run(tool: str, options: Sequence[str], ground: Ground, grows: Path | None, progress: Progress) -> None:
    """The password goes by the environment: arguments can be read by others on the machine."""
    url = ground.database_url.set(drivername="postgresql", password=None)
    password = ground.database_url.password
    environment = {**os.environ, **({"PGPASSWORD": str(password)} if password else {})}
    command = [tool, "--no-password", f"--dbname={url.render_as_string()}", *options]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        try:
            said = _followed(
                process, lambda: grows.stat().st_size if grows and grows.exists() else 0, progress
            )
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        raise Refused(f"{tool} failed: {said.strip() or f'exit code {process.returncode}'}")
    progress.add(0)


def _followed(process: subprocess.Popen[bytes], size: Callable[[], int], progress: Progress) -> str:
    said, copied = b"", 0
    while True:
        with suppress(subprocess.TimeoutExpired):
            said = process.communicate(timeout=_LOOK_S)[1]
        now = size()
        progress.add(now - copied, items=0)
        copied = now
        if process.returncode is not None:
            return said.decode(errors="replace")
