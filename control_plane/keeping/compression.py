"""Compresses the output of runs that have been over for a while, one after the other, beside everything else.
Readers notice nothing: they read on in the file that they have open, and find the other one when they open it next."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import sqlalchemy as sa
import structlog

from control_plane import clock, errors
from control_plane.keeping import store
from control_plane.storage import finished_output
from control_plane.storage.database import Database
from control_plane.storage.output_files import OutputFiles

_ROUND_S: Final = 60.0

log = structlog.get_logger(__name__)


class Compression:
    """`after_s`: how long a run must have been over."""

    def __init__(self, db: Database, outputs: OutputFiles, *, after_s: float) -> None:
        self._db = db
        self._outputs = outputs
        self._after_s = after_s
        # Damaged or gone, and said so: not looked at again before the next start.
        self._given_up: set[str] = set()

    async def serve(self) -> None:
        """Compresses until cancelled."""
        while True:
            try:
                await self.round()
            except errors.DomainError as error:
                log.error("output.compressing_failed", error=error.message, retry_s=_ROUND_S)
            await asyncio.sleep(max(1.0, min(_ROUND_S, self._after_s)))

    async def round(self) -> int:
        """Compresses all that is old enough, and says how many outputs that were."""
        before_us = clock.now_us() - int(self._after_s * 1e6)
        position, count = (0, ""), 0
        while page := await self._db.read(store.to_compress(before_us, position)):
            for run in page:
                count += await self._compress(run)
            position = (page[-1].finished_at, page[-1].id)
        return count

    async def _compress(self, run: sa.Row[Any]) -> bool:
        if run.id in self._given_up or self._outputs.opened(run.id) is not None:
            return False
        path = self._outputs.path(run.id)
        try:
            compressed_bytes = await asyncio.to_thread(
                finished_output.compress, path, size_bytes=run.size_bytes, sha256=run.sha256
            )
        except finished_output.BeingCompressed:
            return False
        except finished_output.NotAsRecorded as error:
            self._given_up.add(run.id)
            log.error("output.damaged", run_id=run.id, path=str(path), problem=str(error))
            return False
        except OSError as error:
            log.error("output.compressing_failed", run_id=run.id, error=str(error), retry_s=_ROUND_S)
            return False
        await self._db.write(store.mark_compressed(run, compressed_bytes))
        log.info(
            "output.compressed", run_id=run.id, size_bytes=run.size_bytes, compressed_bytes=compressed_bytes
        )
        return True
