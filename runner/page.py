"""One assignment's entry in the journal, kept from an event loop."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import structlog

from runner.durable import write_durably
from runner.journal import Entry, Journal, Result, Stage

log = structlog.get_logger(__name__)

_RETRY_S = 1.0
_PREAMBLE = "preamble"

T = TypeVar("T")


class Page:
    """Each method returns when it is on the disk. A disk that is full or fails holds the run up until it works."""

    def __init__(self, journal: Journal, entry: Entry) -> None:
        self._journal = journal
        self._turn = asyncio.Lock()
        self.entry = entry

    @property
    def folder(self) -> Path:
        return self._journal.folder_of(self.entry.assignment_id)

    async def accept(self) -> None:
        await self._write(lambda entry: entry)

    async def start(self, container_id: str, preamble: bytes) -> None:
        """The container is there. `preamble`: masked output from before it, for a replay."""
        digest = ""
        if preamble:
            digest = hashlib.sha256(preamble).hexdigest()
            await self._until_done(self._write_preamble, preamble)
        await self._write(
            lambda entry: replace(
                entry, stage=Stage.STARTED, container_id=container_id, preamble_sha256=digest
            )
        )

    async def pass_gate(self) -> None:
        await self._write(lambda entry: replace(entry, stage=Stage.GATE_PASSED))

    async def end(self, result: Result) -> None:
        await self._write(lambda entry: replace(entry, stage=Stage.ENDED, result=result))

    async def remove(self) -> None:
        async with self._turn:
            await asyncio.to_thread(self._journal.remove, self.entry.assignment_id)

    def preamble(self) -> bytes | None:
        """What `start` got, in this process or in an earlier one; None: it is no longer that. Blocking."""
        path, expected = self.folder / _PREAMBLE, self.entry.preamble_sha256
        text = path.read_bytes() if path.exists() else b""
        if expected and hashlib.sha256(text).hexdigest() != expected:
            log.error("journal.preamble_damaged", run_id=self.entry.run_id, path=str(path))
            return None
        return text

    async def _write(self, change: Callable[[Entry], Entry]) -> None:
        async with self._turn:
            entry = change(self.entry)
            await self._until_done(self._journal.write, entry)
            self.entry = entry

    async def _until_done(self, write: Callable[[T], None], value: T) -> None:
        while True:
            writing = asyncio.ensure_future(asyncio.to_thread(write, value))
            try:
                await asyncio.shield(writing)
                return
            except OSError as error:
                log.error("journal.unwritable", run_id=self.entry.run_id, error=str(error), retry_s=_RETRY_S)
                await asyncio.sleep(_RETRY_S)
            except asyncio.CancelledError:
                # The thread goes on; the next write must not meet it.
                await asyncio.wait({writing})
                raise

    def _write_preamble(self, preamble: bytes) -> None:
        self.folder.mkdir(exist_ok=True, mode=0o700)
        write_durably(self.folder / _PREAMBLE, preamble)
