"""A unit is one transaction: whole or not at all, whatever else is committed with it."""

import asyncio
import threading
from typing import Any

import pytest
import sqlalchemy as sa

from control_plane import errors
from control_plane.storage.database import Database, Unit


@pytest.fixture
async def table(db: Database) -> sa.Table:
    made = sa.Table("notes", sa.MetaData(), sa.Column("body", sa.LargeBinary, primary_key=True))
    await db.write(made.create)
    return made


async def bodies(db: Database, table: sa.Table) -> list[bytes]:
    return await db.read(lambda tx: list(tx.execute(sa.select(table.c.body)).scalars()))


async def together(db: Database, *units: Unit[Any]) -> list[Any]:
    """Writes units that share a commit: they queue up behind one that waits for them."""
    may_go = threading.Event()
    first = asyncio.create_task(db.write(lambda _: may_go.wait()))
    rest = [asyncio.create_task(db.write(unit)) for unit in units]
    await asyncio.sleep(0)
    may_go.set()
    await first
    return await asyncio.gather(*rest, return_exceptions=True)


async def test_a_unit_that_fails_takes_no_other_of_its_group_with_it(db: Database, table: sa.Table) -> None:
    def writes_and_fails(tx: sa.Connection) -> None:
        tx.execute(sa.insert(table), {"body": b"half"})
        raise errors.NotFound("stack", "nowhere")

    outcomes = await together(
        db,
        lambda tx: tx.execute(sa.insert(table), {"body": b"one"}).rowcount,
        writes_and_fails,
        lambda tx: tx.execute(sa.insert(table), {"body": b"two"}).rowcount,
    )
    assert [type(outcome) for outcome in outcomes] == [int, errors.NotFound, int]
    assert sorted(await bodies(db, table)) == [b"one", b"two"]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_full_disk_is_called_that_and_the_next_unit_is_written(db: Database, table: sa.Table) -> None:
    @sa.event.listens_for(db.engine, "connect")
    def _few_pages(connection: object, _record: object) -> None:
        connection.execute("PRAGMA max_page_count=100")  # type: ignore[attr-defined]

    db.engine.dispose()
    with pytest.raises(errors.DiskFull):
        await db.write(lambda tx: tx.execute(sa.insert(table), {"body": bytes(1 << 20)}))
    await db.write(lambda tx: tx.execute(sa.insert(table), {"body": b"small"}))
    assert await bodies(db, table) == [b"small"]
