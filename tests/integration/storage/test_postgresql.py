"""What only PostgreSQL can do to a unit: races for rows, a database that is killed, stopped or started again."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from control_plane import errors
from control_plane.storage import postgresql
from control_plane.storage.database import Database, UnknownDatabase
from scripts import postgres
from tests.faults.small_disk import mounted

# Incompressible, and more than the disk has.
FILLING = "INSERT INTO notes SELECT sha512(n::text::bytea) FROM generate_series(1, 400000) AS n"
COUNTERS = sa.table("counters", sa.column("name"), sa.column("value"))


@pytest.fixture
def two_rows(postgres_url: str) -> Iterator[Database]:
    database = Database(postgres_url)
    with database.engine.begin() as connection:
        connection.execute(sa.insert(COUNTERS), [{"name": name, "value": 0} for name in ("a", "b")])
    yield database
    database.close()


@pytest.fixture(scope="module")
def cluster() -> Iterator[postgres.Cluster]:
    """One that tests kill."""
    with postgres.running() as made:
        yield made


@pytest.fixture
def mortal(cluster: postgres.Cluster) -> Iterator[Database]:
    database = Database(cluster.url())
    yield database
    database.close()


def add_one(tx: sa.Connection, name: str) -> None:
    tx.execute(sa.update(COUNTERS).where(COUNTERS.c.name == name).values(value=COUNTERS.c.value + 1))


def answers(tx: sa.Connection) -> int:
    return int(tx.exec_driver_sql("SELECT 1").scalar_one())


async def test_of_two_units_that_wait_for_each_other_both_are_done(two_rows: Database) -> None:
    both_hold_one = threading.Barrier(2)
    attempts: list[str] = []

    def unit(first: str, second: str) -> None:
        def run(tx: sa.Connection) -> None:
            attempts.append(first)
            add_one(tx, first)
            if len(attempts) <= 2:
                both_hold_one.wait(60)
            add_one(tx, second)

        return run  # type: ignore[return-value]

    await asyncio.gather(two_rows.write(unit("a", "b")), two_rows.write(unit("b", "a")))  # type: ignore[arg-type, func-returns-value]

    statement = sa.select(COUNTERS.c.value).where(COUNTERS.c.name.in_(["a", "b"]))
    assert await two_rows.read(lambda tx: list(tx.execute(statement).scalars())) == [2, 2]
    assert len(attempts) >= 3  # whoever is done anew may meet the other once more


async def test_a_read_sees_one_moment_whatever_is_written_meanwhile(two_rows: Database) -> None:
    has_looked, was_written = threading.Event(), threading.Event()
    value = sa.select(COUNTERS.c.value).where(COUNTERS.c.name == "a")

    def looks_twice(tx: sa.Connection) -> list[int]:
        before = tx.execute(value).scalar_one()
        has_looked.set()
        was_written.wait(60)
        return [before, tx.execute(value).scalar_one()]

    reading = asyncio.create_task(two_rows.read(looks_twice))
    await asyncio.to_thread(has_looked.wait, 60)
    await two_rows.write(lambda tx: add_one(tx, "a"))
    was_written.set()
    assert await reading == [0, 0]


async def test_a_read_cannot_write(two_rows: Database) -> None:
    with pytest.raises(sa.exc.InternalError, match="read-only"):
        await two_rows.read(lambda tx: add_one(tx, "a"))


async def test_a_killed_database_is_unavailable_at_once_and_needs_nobody_when_it_is_back(
    mortal: Database, cluster: postgres.Cluster
) -> None:
    assert await mortal.read(answers) == 1
    cluster.kill()
    for _ in range(3):
        with pytest.raises(errors.DatabaseUnavailable) as caught:
            await asyncio.wait_for(mortal.write(answers), 5)
        assert [detail.DESCRIPTOR.name for detail in caught.value.details] == ["RetryInfo"]
    cluster.start()
    assert await mortal.write(answers) == 1


async def test_a_database_that_was_started_again_unseen_costs_no_caller_an_error(
    mortal: Database, cluster: postgres.Cluster
) -> None:
    await asyncio.gather(*(mortal.write(answers) for _ in range(8)))
    cluster.kill()
    cluster.start()
    assert await asyncio.gather(*(mortal.write(answers) for _ in range(8))) == [1] * 8


async def test_a_database_that_hangs_is_called_unavailable_and_found_again(
    mortal: Database, cluster: postgres.Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql, "SILENCE_S", 0.2)
    monkeypatch.setattr(postgresql, "_PROBE_S", 60)
    (backend,) = await asyncio.gather(
        mortal.write(lambda tx: tx.exec_driver_sql("SELECT pg_backend_pid()").scalar_one())
    )
    assert cluster.process is not None
    frozen = [cluster.process.pid, int(backend)]
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(errors.DatabaseUnavailable, match=r"has not answered.*is not known"):
            await mortal.write(answers)
        with pytest.raises(errors.DatabaseUnavailable, match="does not answer; nothing was changed"):
            await mortal.write(answers)
    finally:
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)
    monkeypatch.setattr(postgresql, "_PROBE_S", 0.05)
    async with asyncio.timeout(20):
        while True:
            try:
                assert await mortal.write(answers) == 1
                return
            except errors.DatabaseUnavailable:
                await asyncio.sleep(0.05)


@pytest.fixture
def small_space(cluster: postgres.Cluster) -> Iterator[str]:
    """A table space on a disk of a few MiB, which the server can reach."""
    folder = cluster.folder / "small"
    with mounted(folder):
        owner = (cluster.folder / "data").stat()
        os.chown(folder, owner.st_uid, owner.st_gid)
        (space := folder / "space").mkdir()
        os.chown(space, owner.st_uid, owner.st_gid)
        engine = sa.create_engine(cluster.url(), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql(f"CREATE TABLESPACE small LOCATION '{space}'")
            yield "small"
            connection.exec_driver_sql("DROP TABLE IF EXISTS notes")
            connection.exec_driver_sql("DROP TABLESPACE small")
        engine.dispose()


async def test_a_full_disk_is_called_that_and_the_next_unit_is_written(
    mortal: Database, small_space: str
) -> None:
    create = f"CREATE TABLE notes (body bytea) TABLESPACE {small_space}"
    await mortal.write(lambda tx: tx.exec_driver_sql(create))
    with pytest.raises(errors.DiskFull):
        await mortal.write(lambda tx: tx.exec_driver_sql(FILLING))
    await mortal.write(lambda tx: tx.exec_driver_sql("DROP TABLE notes"))
    await mortal.write(lambda tx: tx.exec_driver_sql(create))
    await mortal.write(lambda tx: tx.exec_driver_sql("INSERT INTO notes VALUES ('small')"))
    rows = await mortal.read(lambda tx: tx.exec_driver_sql("SELECT body FROM notes").scalars().all())
    assert rows == [b"small"]


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("mysql://localhost/interlock", "mysql is not spoken here"),
        (
            "postgresql+asyncpg://localhost/interlock",
            "asyncpg is not spoken here: it is sqlite:///FILE or postgresql",
        ),
        ("interlock.db", "no URL"),
        # It would be shown in errors and arguments.
        (
            "postgresql://db.example/interlock?user=ada&password=open-sesame",
            "write the password before the host",
        ),
    ],
)
def test_another_database_is_refused_with_what_there_is(url: str, problem: str) -> None:
    with pytest.raises(UnknownDatabase, match=problem):
        Database(url)
