"""Moves output into the object store, compressed, one object a run: in place of its segments, or of its file from before
the store was in use. What was written goes a while later, so that whoever reads it ends in peace."""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import structlog

from control_plane.keeping import store
from control_plane.storage import finished_output, packs, segments
from control_plane.storage.database import Database
from control_plane.storage.finished_output import BeingCompressed, NotAsRecorded
from control_plane.storage.output_files import OutputFiles
from control_plane.storage.outputs import READ_BLOCK_BYTES, Outputs
from control_plane.storage.packs import PackReader
from control_plane.storage.seekable import Writer

if TYPE_CHECKING:
    from control_plane.storage.object_store import ObjectStore

_DRAFT: Final = "packing-"
_AT_ONCE: Final = 16
_IN_FILES: Final = (".log", ".zst")

log = structlog.get_logger(__name__)


class InObjectStore:
    """Packs. `drafts`: a folder of this control plane alone, with room for the longest output, compressed."""

    kept_as = "moved"

    def __init__(
        self,
        db: Database,
        store_: ObjectStore,
        outputs: Outputs,
        files: OutputFiles,
        drafts: Path,
        *,
        stays_s: float = packs.STAYS_S,
    ) -> None:
        self._db = db
        self._store = store_
        self._outputs = outputs
        self._files = files
        self._drafts = drafts
        self._stays_s = stays_s
        # When what was written may go, by the event loop's clock; None: what an earlier process left is not known yet.
        self._leaving: dict[str, float] | None = None

    async def keep(self, run: Any) -> int:
        if await self._db.read(lambda tx: segments.is_packed(tx, run.id)):
            # Another control plane was quicker.
            raise BeingCompressed
        with tempfile.NamedTemporaryFile(prefix=_DRAFT, dir=self._drafts) as draft:
            await self._compress(run, draft)  # type: ignore[arg-type]
            await self._store.put_file(packs.key_of(run.id), Path(draft.name))
            size_bytes = draft.tell()
        await self._require_same(run)
        (await self._to_leave())[run.id] = asyncio.get_running_loop().time() + self._stays_s
        return size_bytes

    async def tidy(self, before_us: int) -> list[Any]:
        leaving = await self._to_leave()
        now_s = asyncio.get_running_loop().time()
        for run_id in [run_id for run_id, at_s in leaving.items() if at_s <= now_s]:
            await self._remove_written(run_id)
            del leaving[run_id]
        found = []
        for run_id in await asyncio.to_thread(self._in_files):
            run = await self._db.read(store.if_old_enough(run_id, before_us))
            if run is not None and run.output_kept_as != self.kept_as and run.size_bytes:
                found.append(run)
            elif run is not None and run.output_kept_as == self.kept_as:
                leaving.setdefault(run_id, now_s + self._stays_s)
        return found

    async def _to_leave(self) -> dict[str, float]:
        if self._leaving is None:
            at_s = asyncio.get_running_loop().time() + self._stays_s
            self._leaving = dict.fromkeys(await self._db.read(segments.left), at_s)
            await asyncio.to_thread(self._sweep)
        return self._leaving

    async def _compress(self, run: Any, draft: BinaryIO) -> None:
        writer, digest, offset = Writer(draft), hashlib.sha256(), 0
        while block := await self._outputs.read(run.id, offset, READ_BLOCK_BYTES):
            digest.update(block)
            offset += len(block)
            await asyncio.to_thread(writer.write, block)
        finished_output.require(offset, digest.hexdigest(), run.size_bytes, run.sha256)
        writer.finish()
        draft.flush()

    async def _require_same(self, run: Any) -> None:
        """What is there now is read before it counts."""
        reader, digest, offset = PackReader(self._store), hashlib.sha256(), 0
        while block := await reader.read(run.id, offset, READ_BLOCK_BYTES):
            digest.update(block)
            offset += len(block)
        if (offset, digest.hexdigest()) != (run.size_bytes, run.sha256):
            raise NotAsRecorded(f"{packs.key_of(run.id)}, just written, is not what was written")

    async def _remove_written(self, run_id: str) -> None:
        """Segments' objects before their rows: what is left of a removal that was cut off is found by its rows."""
        if not await self._db.read(lambda tx: segments.is_packed(tx, run_id)):
            return
        offset = 0
        while page := await self._db.read(lambda tx, at=offset: segments.behind(tx, run_id, at)):  # type: ignore[misc]
            for start in range(0, len(page), _AT_ONCE):
                keys = [segment.key for segment in page[start : start + _AT_ONCE]]
                await asyncio.gather(*map(self._store.remove, keys))
            offset = page[-1].end
        await self._db.write(lambda tx: segments.remove(tx, run_id))
        await asyncio.to_thread(finished_output.remove, self._files.path(run_id))

    def _in_files(self) -> list[str]:
        """Runs that have a file still."""
        root = self._files.folder
        return sorted(
            {
                name.partition(".")[0]
                for _, _, names in os.walk(root)
                for name in names
                if name.endswith(_IN_FILES)
            }
        )

    def _sweep(self) -> None:
        """Drafts of a process that was killed."""
        for draft in self._drafts.glob(f"{_DRAFT}*"):
            draft.unlink(missing_ok=True)
