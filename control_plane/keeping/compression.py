"""Compresses the output of runs that have been over for a while, one after the other, beside everything else.
Readers notice nothing: they read on in what they have, and find the other when they look next."""

from __future__ import annotations

import asyncio
import random
from typing import Any, Final, Protocol

import structlog

from control_plane import clock, errors
from control_plane.keeping import store
from control_plane.storage import finished_output
from control_plane.storage.database import Database
from control_plane.storage.output_files import OutputFiles
from control_plane.storage.outputs import Outputs

_ROUND_S: Final = 60.0

log = structlog.get_logger(__name__)


class Keeper(Protocol):
    """Where compressed output goes."""

    # As of runs.output_kept_as.
    kept_as: str

    async def keep(self, run: Any) -> int:
        """Puts it there, and returns how long it is. The output is read from there once the run is marked.

        Raises:
            NotAsRecorded, BeingCompressed, OSError, errors.DomainError
        """

    async def tidy(self, before_us: int) -> list[Any]:
        """Removes what has had its place taken for long enough. Runs, over before then, that are to be kept besides those
        that the database lists."""


class InPlace:
    """A compressed file takes the place of the one that was written."""

    kept_as = "compressed"

    def __init__(self, files: OutputFiles) -> None:
        self._files = files

    async def keep(self, run: Any) -> int:
        path = self._files.path(run.id)
        return await asyncio.to_thread(
            finished_output.compress, path, size_bytes=run.size_bytes, sha256=run.sha256
        )

    async def tidy(self, before_us: int) -> list[Any]:
        del before_us
        return []


class Compression:
    """`after_s`: how long a run must have been over."""

    def __init__(self, db: Database, outputs: Outputs, keeper: Keeper, *, after_s: float) -> None:
        self._db = db
        self._outputs = outputs
        self._keeper = keeper
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
        count = 0
        for run in await self._keeper.tidy(before_us):
            count += await self._compress(run)
        position = (0, "")
        while page := await self._db.read(store.to_compress(before_us, position)):
            position = (page[-1].finished_at, page[-1].id)
            # Of several control planes each is at another one.
            for run in random.sample(page, len(page)):
                count += await self._compress(run)
        return count

    async def _compress(self, run: Any) -> bool:
        if run.id in self._given_up or self._outputs.opened(run.id) is not None:
            return False
        try:
            compressed_bytes = await self._keeper.keep(run)
        except finished_output.BeingCompressed:
            return False
        except finished_output.NotAsRecorded as error:
            self._given_up.add(run.id)
            log.error("output.damaged", run_id=run.id, problem=str(error))
            return False
        except OSError as error:
            log.error("output.compressing_failed", run_id=run.id, error=str(error), retry_s=_ROUND_S)
            return False
        await self._db.write(store.mark(run, self._keeper.kept_as, compressed_bytes))
        log.info(
            "output.compressed",
            run_id=run.id,
            kept_as=self._keeper.kept_as,
            size_bytes=run.size_bytes,
            compressed_bytes=compressed_bytes,
        )
        return True
