"""Notes between control planes: heard by the others, not by who told them, and missed ones are known to be missed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import sqlalchemy as sa

from control_plane.replicas import notes
from control_plane.replicas.notes import Kind, Note
from control_plane.replicas.postgres_bus import PostgresBus
from control_plane.storage.database import Database

CUT = sa.text(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'interlock-bus'"
)


class Ear:
    """A bus, and what came of it."""

    def __init__(self, url: sa.URL, name: str) -> None:
        self.bus = PostgresBus(url, name)
        self.heard: asyncio.Queue[Note] = asyncio.Queue()
        self.missed = asyncio.Semaphore(0)
        self.bus.heard = self.heard.put_nowait
        self.bus.missed = self.missed.release


@pytest.fixture
async def ears(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Ear, Ear]]:
    monkeypatch.setattr("control_plane.replicas.postgres_bus._RETRY_S", 0.01)
    db = Database(postgres_url)
    made = Ear(db.url, "rep_a"), Ear(db.url, "rep_b")
    serving = [asyncio.create_task(ear.bus.serve()) for ear in made]
    for ear in made:
        await asyncio.wait_for(ear.missed.acquire(), 10)
    yield made
    for task in serving:
        task.cancel()
    await asyncio.gather(*serving, return_exceptions=True)
    db.close()


async def test_a_note_is_heard_by_the_other_and_not_by_who_told_it(ears: tuple[Ear, Ear]) -> None:
    first, second = ears
    first.bus.tell(Kind.RUN, "run_1")
    first.bus.tell(Kind.RUN, "run_1")
    first.bus.tell(Kind.POLICIES)
    second.bus.tell(Kind.STACK, "network")
    async with asyncio.timeout(10):
        assert [await second.heard.get() for _ in range(2)] == [Note(Kind.RUN, "run_1"), Note(Kind.POLICIES)]
        assert await first.heard.get() == Note(Kind.STACK, "network")
    assert first.heard.empty()
    assert second.heard.empty()


async def test_a_note_that_nobody_understands_ends_nothing(ears: tuple[Ear, Ear], postgres_url: str) -> None:
    first, second = ears
    db = Database(postgres_url)
    hear = second.bus.heard

    def choosy(note: Note) -> None:
        if note.kind is Kind.TAKEN_OVER:
            raise ValueError(note.subject)
        hear(note)

    second.bus.heard = choosy
    garbage = sa.text("SELECT pg_notify('interlock', 'somebody' || chr(10) || 'taken-over x/y')")
    await db.write(lambda tx: tx.execute(garbage))
    first.bus.tell(Kind.KEY, "key_1")
    async with asyncio.timeout(10):
        assert await second.heard.get() == Note(Kind.KEY, "key_1")
    db.close()


async def test_a_bus_that_was_cut_off_listens_again_and_says_that_it_may_have_missed_something(
    ears: tuple[Ear, Ear], postgres_url: str
) -> None:
    first, second = ears
    db = Database(postgres_url)
    await db.write(lambda tx: tx.execute(CUT))
    db.close()
    async with asyncio.timeout(20):
        for ear in ears:
            await ear.missed.acquire()
        while second.heard.empty():
            # The sender may still be on its way back: what is told then is lost, and the rounds find it.
            first.bus.tell(Kind.RUN, "run_2")
            await asyncio.sleep(0.02)
        assert await second.heard.get() == Note(Kind.RUN, "run_2")


def test_more_notes_than_fit_go_into_several_payloads() -> None:
    told = [Note(Kind.RUN, f"run_{number:026}") for number in range(1000)]
    payloads = list(notes.encode("rep_a", told))
    assert all(len(payload) < 8000 for payload in payloads)
    assert [note for payload in payloads for note in notes.decode(payload)[1]] == told


def test_a_note_of_a_newer_release_is_passed_over() -> None:
    assert notes.decode("rep_b\nwhatever it is\nrun run_1") == ("rep_b", [Note(Kind.RUN, "run_1")])
