"""What plans leave for their apply: sealed under the master key, in the store of archives, until the run is over.

A plan holds secrets in the clear, so nothing of it is stored otherwise.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Any, Final

import sqlalchemy as sa
import structlog

from control_plane import errors
from control_plane.keys import MasterKeyError, Sealer
from control_plane.runs import assignments, plans
from control_plane.runs.errors import FencedOut, PlanGone
from control_plane.runs.states import RunState
from control_plane.storage.archives import ArchiveStore
from control_plane.storage.database import Database
from interlock.v1 import runner_service_pb2 as rpc

# Removal is no hurry: what is kept is sealed.
_SWEEP_S: Final = 60.0
_LENGTH_BYTES: Final = 4
MAX_BYTES: Final = 1 << 30
_PLANNING: Final = frozenset({RunState.READY, RunState.PREPARING, RunState.INITIALIZING, RunState.PLANNING})

log = structlog.get_logger(__name__)


class KeptPlans:
    """Takes what a plan left, gives it to the apply, and removes it when the run is over."""

    def __init__(
        self, db: Database, archives: ArchiveStore, sealer: Sealer, *, max_bytes: int = MAX_BYTES
    ) -> None:
        self._db = db
        self._archives = archives
        self._sealer = sealer
        self._max_bytes = max_bytes

    async def take(self, run: sa.Row[Any], chunks: AsyncIterator[bytes]) -> plans.Kept:
        """Durable when it returns. Sent again, it takes the former's place.

        Raises:
            FencedOut: the run does not plan, or its assignment is another meanwhile.
            errors.LimitExceeded, errors.DiskFull
        """
        digest = hashlib.sha256()
        size_bytes = index = 0
        with self._archives.new() as archive:
            async for chunk in chunks:
                digest.update(chunk)
                size_bytes += len(chunk)
                if size_bytes > self._max_bytes:
                    raise errors.LimitExceeded(
                        f"what the plan left has more than {self._max_bytes} bytes; this server takes no more"
                    )
                sealed = self._sealer.seal(chunk, context=_context(run.id, index))
                await asyncio.to_thread(archive.write, len(sealed).to_bytes(_LENGTH_BYTES, "big") + sealed)
                index += 1
            await self._archives.keep(archive)
            kept = plans.Kept(digest.hexdigest(), size_bytes, archive.sha256)
        try:
            replaced = await self._db.write(lambda tx: _note(tx, run, kept))
        except FencedOut:
            await self._archives.remove(kept.sealed_sha256)
            raise
        if replaced:
            await self._archives.remove(replaced)
        return kept

    async def chunks(self, run_id: str) -> AsyncIterator[bytes]:
        """What the run's plan left. Raises PlanGone where it cannot be had."""
        plan = await self._db.read(lambda tx: plans.find(tx, run_id))
        if plan is None or not plan.sealed_sha256:
            raise PlanGone(run_id, "it was removed")
        index, buffer = 0, b""
        try:
            async for piece in self._archives.chunks(plan.sealed_sha256):
                buffer += piece
                while (sealed := _first(buffer)) is not None:
                    buffer = buffer[_LENGTH_BYTES + len(sealed) :]
                    yield self._sealer.open(sealed, context=_context(run_id, index))
                    index += 1
        except FileNotFoundError as error:
            raise PlanGone(run_id, "it is gone from where the server keeps its archives") from error
        except MasterKeyError as error:
            raise PlanGone(run_id, str(error)) from error

    async def serve(self) -> None:
        """Removes what nobody needs any more, until cancelled."""
        while True:
            try:
                await self._sweep()
            except errors.DomainError as error:
                log.error("plans.sweep_failed", error=str(error), retry_s=_SWEEP_S)
            await asyncio.sleep(_SWEEP_S)

    async def _sweep(self) -> None:
        for row in await self._db.read(plans.left):
            await self.remove(str(row.run_id), str(row.sealed_sha256))

    async def remove(self, run_id: str, sealed_sha256: str) -> None:
        await self._archives.remove(sealed_sha256)
        await self._db.write(lambda tx: plans.forget(tx, run_id))
        log.info("plan.removed", run_id=run_id)


def _note(connection: sa.Connection, seen: sa.Row[Any], kept: plans.Kept) -> str:
    ref = rpc.AssignmentRef(run_id=seen.id, assignment_id=seen.assignment_id, fencing_token=seen.fence)
    run = assignments.current(connection, ref, seen.runner_id)
    if run.type != "TRACKED" or RunState(run.state) not in _PLANNING:
        raise FencedOut(run.id, ref.assignment_id)
    return plans.keep(connection, run.id, run.assignment_id, kept)


def _first(buffer: bytes) -> bytes | None:
    """The first whole sealed piece; None where there is none yet."""
    end = _LENGTH_BYTES + int.from_bytes(buffer[:_LENGTH_BYTES], "big")
    return buffer[_LENGTH_BYTES:end] if len(buffer) >= max(end, _LENGTH_BYTES + 1) else None


def _context(run_id: str, index: int) -> str:
    return f"plan/{run_id}/{index}"
