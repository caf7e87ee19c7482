"""Run output in an object store, for several control planes: what is appended goes there in segments, and is
acknowledged once a segment's object and its row are durable. Segments are written per run, one after the other, as soon
as there is enough for one, somebody waits for it, or its first byte has waited long enough.

Output from before the object store was in use stays in its files, which are read as they are. Once a run is over, a pack
may take the place of either (`packs`)."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Final

import structlog

from control_plane import errors
from control_plane.errors import ObjectStoreUnavailable
from control_plane.storage import segments
from control_plane.storage.database import Database
from control_plane.storage.object_store import ObjectStore
from control_plane.storage.output_files import OutputFiles
from control_plane.storage.outputs import Outputs, RunOutput, StoredOutput, WriterFenced
from control_plane.storage.packs import LOOK_AT_END_S, LOOK_S, PackedRuns, PackReader
from control_plane.storage.segment_reading import BLOCK_BYTES, SegmentIndex, SegmentReader
from control_plane.storage.segments import Segment

# Enough for a segment, and the most that goes into one; what it has waited for at most, so that those who watch at
# another control plane are not far behind.
SEGMENT_BYTES: Final = 1 << 20
MAX_SEGMENT_BYTES: Final = 4 << 20
SEGMENT_AGE_S = 0.5
RETRY_S = 1.0
_AHEAD: Final = 4

log = structlog.get_logger(__name__)


class ObjectOutput(RunOutput):
    """The output of one run, and what is known of its next segment."""

    def __init__(self, run_id: str, stored: StoredOutput, begin: int) -> None:
        super().__init__(run_id, stored)
        # Where the first segment is to begin; before it is a file.
        self.begin = begin
        # Over the durable bytes; None: they have to be read again before any are added.
        self.digest = None if stored.size_bytes else hashlib.sha256()
        # Its object is durable, its row is not: the pending bytes that it holds, and the digest behind it.
        self.uploaded: tuple[Segment, hashlib._Hash] | None = None
        # When the first byte that is not durable was appended, by the event loop's clock.
        self.waits_since_s: float | None = None
        self.is_urgent = False
        self.changed = asyncio.Event()
        self.is_draining = False
        # Why it is held back.
        self.fault: errors.DomainError | None = None
        self.is_fenced = False

    @property
    def is_due(self) -> bool:
        """Enough for a segment, or waited for."""
        return self.is_urgent or self.is_left or self.size_bytes - self.durable_bytes >= SEGMENT_BYTES


class OutputObjects(Outputs):
    """All runs' output in `store`; `files` is where it was kept before."""

    def __init__(self, db: Database, store: ObjectStore, files: OutputFiles) -> None:
        super().__init__()
        self._db = db
        self._store = store
        self._files = files
        self._index = SegmentIndex(db)
        self._reader = SegmentReader(store)
        self._packs = PackReader(store)
        self._packed = PackedRuns(db)
        self._grown: dict[str, ObjectOutput] = {}
        self._wake = asyncio.Event()
        self._held_back: set[str] = set()

    async def make_room(self, run_id: str, length: int) -> None:
        self._raise_if_held_back(self._open[run_id], only_for_ever=True)
        await super().make_room(run_id, length)

    async def size_stored(self, run_id: str) -> int:
        found = await self._db.read(lambda tx: segments.last(tx, run_id))
        return found.end if found is not None else await self._files.size_stored(run_id)

    async def serve(self) -> None:
        """Writes segments until cancelled. What is not durable then was not acknowledged: runners send it again."""
        async with asyncio.TaskGroup() as group:
            while True:
                await self._wake.wait()
                self._wake.clear()
                grown, self._grown = self._grown, {}
                for output in grown.values():
                    if not output.is_draining:
                        output.is_draining = True
                        group.create_task(self._drain(output))

    async def _load(self, run_id: str) -> RunOutput:
        found = await self._db.read(lambda tx: segments.last(tx, run_id))
        if found is not None:
            return ObjectOutput(run_id, segments.stored(found), begin=0)
        before = await self._files.on_disk(run_id)
        return ObjectOutput(run_id, before, begin=before.size_bytes)

    async def _read_durable(self, run_id: str, offset: int, length: int) -> bytes:
        if not length:
            return b""
        if not await self._packed.has(run_id, within_s=LOOK_S):
            data = await self._read_as_written(run_id, offset, length)
            if data:
                return data
            # What was known here has gone, since a pack took its place; or this is the end.
            within_s = 0.0 if self._index.knows(run_id, offset) else LOOK_AT_END_S
            if not await self._packed.has(run_id, within_s=within_s):
                return data
            self._index.forget(run_id)
        return await self._packs.read(run_id, offset, length)

    async def _read_as_written(self, run_id: str, offset: int, length: int) -> bytes:
        covering = await self._index.covering(run_id, offset, length)
        if not covering:
            return await self._files.read(run_id, offset, length)
        if (before := covering[0].offset - offset) > 0:
            return await self._files.read(run_id, offset, min(before, length))
        return await self._reader.read(covering, offset, length)

    def _grew(self, output: RunOutput) -> None:
        assert isinstance(output, ObjectOutput)
        if output.waits_since_s is None:
            output.waits_since_s = asyncio.get_running_loop().time()
        if output.is_draining:
            if output.is_due:
                output.changed.set()
        elif not output.is_fenced:
            self._grown[output.run_id] = output
            self._wake.set()

    def _hurry(self, output: RunOutput) -> None:
        assert isinstance(output, ObjectOutput)
        output.is_urgent = True
        output.changed.set()

    def _raise_if_held_back(self, output: RunOutput, *, only_for_ever: bool = False) -> None:
        assert isinstance(output, ObjectOutput)
        if output.is_fenced:
            raise WriterFenced(output.run_id)
        if output.fault is not None and not only_for_ever:
            raise output.fault.with_traceback(None)

    def _close(self, output: RunOutput) -> None:
        assert isinstance(output, ObjectOutput)
        output.changed.set()

    async def _drain(self, output: ObjectOutput) -> None:
        try:
            while not (output.is_left or output.is_settled or output.is_fenced):
                await self._ripen(output)
                await self._try_to_store(output)
        finally:
            output.is_draining = False
            self._goes_on(output)

    async def _ripen(self, output: ObjectOutput) -> None:
        """Returns when the next segment is to be written."""
        since_s = output.waits_since_s or 0.0
        try:
            async with asyncio.timeout_at(since_s + SEGMENT_AGE_S):
                while not output.is_due:
                    await output.changed.wait()
                    output.changed.clear()
        except TimeoutError:
            return

    async def _try_to_store(self, output: ObjectOutput) -> None:
        output.is_urgent = False
        try:
            await self._store_next(output)
        except WriterFenced as error:
            log.warning("output.fenced_out", run_id=output.run_id, reason=str(error))
            output.is_fenced = True
        except (errors.DiskFull, errors.Unavailable) as error:
            self._holds_back(output, error)
            await self._told_settled()
            await asyncio.sleep(RETRY_S)
            return
        self._goes_on(output)
        await self._told_settled()

    async def _store_next(self, output: ObjectOutput) -> None:
        if output.digest is None:
            output.digest = await self._digest_of_stored(output)
        if output.uploaded is None:
            output.uploaded = await self._upload(output, output.digest)
        segment, digest = output.uploaded
        writer = output.writer
        assert writer is not None
        if await self._db.write(lambda tx: segments.add(tx, segment, writer, begin=output.begin)):
            output.uploaded, output.digest = None, digest
            self._settle_next(output, segment)
        else:
            await self._take_over(output, output.digest)

    async def _upload(self, output: ObjectOutput, before: hashlib._Hash) -> tuple[Segment, hashlib._Hash]:
        data = output.pending(MAX_SEGMENT_BYTES)
        sha256, digest = await asyncio.to_thread(_digests, before, data)
        writer = output.writer
        assert writer is not None
        segment = Segment(
            output.run_id, output.durable_bytes, len(data), writer.fence, sha256, digest.hexdigest()
        )
        await self._store.put(segment.key, data)
        return segment, digest

    async def _take_over(self, output: ObjectOutput, digest: hashlib._Hash) -> None:
        """Another control plane, or this one with an answer that was lost, has added segments: passes over them after
        comparing."""
        found = await self._index.behind(output.run_id, output.durable_bytes)
        if not found:
            raise ObjectStoreUnavailable(f"the record of {output.run_id} has lost output; was it restored?")
        for segment in found:
            data = await self._reader.read([segment], segment.offset, segment.size_bytes)
            known = output.pending()[: len(data)]
            if len(data) != segment.size_bytes or data[: len(known)] != known:
                log.error("output.differs", run_id=output.run_id, offset_bytes=segment.offset)
                raise ObjectStoreUnavailable(f"{segment.key} holds other bytes than the runner has sent")
            output.append(output.size_bytes, data[len(known) :])
            digest = digest.copy()
            digest.update(data)
            output.uploaded, output.digest = None, digest
            self._settle_next(output, segment)
            self.on_found(output.run_id)

    def _settle_next(self, output: ObjectOutput, segment: Segment) -> None:
        output.settle(segment.size_bytes, segment.output_sha256)
        output.waits_since_s = None if output.is_settled else asyncio.get_running_loop().time()
        self.on_stored(output.run_id)

    async def _digest_of_stored(self, output: ObjectOutput) -> hashlib._Hash:
        """A digest cannot be stored half-made: whoever goes on with another's output reads it once."""
        digest, position = hashlib.sha256(), 0
        while position < output.durable_bytes:
            blocks = await asyncio.gather(
                *(self._block_of_stored(output, position + number * BLOCK_BYTES) for number in range(_AHEAD))
            )
            for block in blocks:
                await asyncio.to_thread(digest.update, block)
                position += len(block)
        if digest.hexdigest() != output.durable_sha256:
            log.error("output.damaged", run_id=output.run_id, problem="its SHA-256 is not the one on record")
            raise ObjectStoreUnavailable(f"the stored output of {output.run_id} is not what was stored")
        return digest

    async def _block_of_stored(self, output: ObjectOutput, offset: int) -> bytes:
        """All of it, in as many reads as it takes."""
        parts: list[bytes] = []
        end = min(output.durable_bytes, offset + BLOCK_BYTES)
        while offset < end:
            part = await self._read_durable(output.run_id, offset, end - offset)
            if not part:
                raise ObjectStoreUnavailable(f"the output of {output.run_id} is gone from byte {offset} on")
            parts.append(part)
            offset += len(part)
        return b"".join(parts)

    def _holds_back(self, output: ObjectOutput, error: errors.DomainError) -> None:
        output.fault = error
        if not self._held_back:
            log.warning("output.store_away", run_id=output.run_id, cause=error.message)
        self._held_back.add(output.run_id)

    def _goes_on(self, output: ObjectOutput) -> None:
        output.fault = None
        if output.run_id in self._held_back:
            self._held_back.discard(output.run_id)
            if not self._held_back:
                log.warning("output.store_back", run_id=output.run_id)


def _digests(before: hashlib._Hash, data: bytes) -> tuple[str, hashlib._Hash]:
    """Of `data` alone, and of all up to its end."""
    digest = before.copy()
    digest.update(data)
    return hashlib.sha256(data).hexdigest(), digest
