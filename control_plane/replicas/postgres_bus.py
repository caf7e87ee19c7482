"""Carries notes between control planes, by PostgreSQL's LISTEN and NOTIFY. Notes that come close together share one
NOTIFY, outside any transaction: a NOTIFY within one would make all commits of the database wait for each other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import psycopg
import sqlalchemy as sa
import structlog

from control_plane.replicas import notes
from control_plane.replicas.notes import Kind, Note

_CHANNEL: Final = "interlock"
# Long enough for the notes of one step to share a NOTIFY, short against what they tell of.
_GATHER_S: Final = 0.003
_RETRY_S: Final = 1.0
# A sender that has waited so long for the database drops what it has: the rounds of the others find it.
_MAX_WAITING: Final = 10_000

log = structlog.get_logger(__name__)


class PostgresBus:
    """`heard` is called with each note of another control plane; `missed` when notes may have been lost."""

    def __init__(self, url: sa.URL, replica_id: str) -> None:
        self._connect = _arguments(url)
        self._replica_id = replica_id
        self._waiting: dict[Note, None] = {}
        self._awake = asyncio.Event()
        self.heard: Callable[[Note], None] = lambda _note: None
        self.missed: Callable[[], None] = lambda: None

    def tell(self, kind: Kind, subject: str = "") -> None:
        if len(self._waiting) < _MAX_WAITING:
            self._waiting[Note(kind, subject)] = None
            self._awake.set()

    async def serve(self) -> None:
        """Listens and sends until cancelled, through restarts of the database."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._again_and_again(self._listen, "listening"))
            group.create_task(self._again_and_again(self._send, "sending"))

    async def _again_and_again(
        self, work: Callable[[psycopg.AsyncConnection[Any]], Awaitable[None]], name: str
    ) -> None:
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(
                    **self._connect, autocommit=True
                ) as connection:
                    await work(connection)
            except psycopg.Error as error:
                log.warning("bus.interrupted", what=name, cause=str(error).strip(), retry_s=_RETRY_S)
            await asyncio.sleep(_RETRY_S)

    async def _listen(self, connection: psycopg.AsyncConnection[Any]) -> None:
        await connection.execute(f"LISTEN {_CHANNEL}")
        # What was told before this moment, nobody has heard here.
        self.missed()
        async for notify in connection.notifies():
            self._hear(notify.payload)

    def _hear(self, payload: str) -> None:
        sender, told = notes.decode(payload)
        if sender == self._replica_id:
            return
        for note in told:
            try:
                self.heard(note)
            # A boundary: whoever may connect to the database may send what nobody understands.
            except Exception:
                log.exception("bus.note_not_understood", kind=note.kind.value, subject=note.subject)

    async def _send(self, connection: psycopg.AsyncConnection[Any]) -> None:
        while True:
            await self._awake.wait()
            await asyncio.sleep(_GATHER_S)
            self._awake.clear()
            told, self._waiting = self._waiting, {}
            for payload in notes.encode(self._replica_id, told):
                await connection.execute("SELECT pg_notify(%s, %s)", (_CHANNEL, payload))


def _arguments(url: sa.URL) -> dict[str, Any]:
    """As SQLAlchemy would connect, for a connection of our own."""
    _, keywords = url.get_dialect()().create_connect_args(url)
    extra = {"connect_timeout": 5, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 2}
    return {"application_name": "interlock-bus", **extra, **keywords}
