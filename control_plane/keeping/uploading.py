"""From files into an object store, at a restore: each output in segments that nobody else writes, each archive as it is.
What was uploaded is a part of nothing before its rows are in the database."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Final

from control_plane import errors
from control_plane.keeping import files, manifest, stored
from control_plane.keeping.errors import Refused
from control_plane.keeping.manifest import FileEntry
from control_plane.keeping.progress import Progress
from control_plane.object_address import ObjectAddress
from control_plane.storage import finished_output
from control_plane.storage.archives import key_of
from control_plane.storage.segments import Segment

# Where the rows wait for the database.
ROWS: Final = "segments.jsonl"
_SEGMENT_BYTES: Final = 4 << 20
# No slot was ever given with it: no runner's segment has this name.
_NO_FENCE: Final = 0


def upload(folder: Path, address: ObjectAddress, progress: Progress) -> None:
    """Uploads what is below output/ and sources/ of `folder`, and lists the segments in its ROWS.

    Raises:
        Refused: the object store or its client is not there.
    """
    try:
        from control_plane.storage.object_store import ObjectStore  # noqa: PLC0415  # an extra
    except ModuleNotFoundError as error:
        raise Refused(
            "INTERLOCK_OBJECT_STORE_URL is set, and its client is not installed: pip install 'interlock[server,objects]'"
        ) from error
    store = ObjectStore(address)

    def put(entry: FileEntry, call: stored.Call) -> list[Segment]:
        path = folder / entry.path
        if not entry.run_id:
            call(store.put_file(key_of(path.name), path))
            return []
        made = []
        for segment, data in _segments(entry.run_id, path):
            call(store.put(segment.key, data))
            made.append(segment)
        return made

    progress.begin(f"to {address}")
    with stored.loop() as call, (folder / ROWS).open("w") as rows:
        try:
            for made in files.each(partial(put, call=call), manifest.entries(folder)):
                rows.writelines(json.dumps(asdict(segment)) + "\n" for segment in made)
                progress.add(sum(segment.size_bytes for segment in made))
        except errors.Unavailable as error:
            raise Refused(f"{address}: {error.message}") from error
    progress.end()


def listed(folder: Path) -> Iterator[Segment]:
    """What `upload` has listed; nothing where there was no upload."""
    if (folder / ROWS).exists():
        with (folder / ROWS).open() as lines:
            for line in lines:
                yield Segment(**json.loads(line))


def _segments(run_id: str, path: Path) -> Iterator[tuple[Segment, bytes]]:
    whole, offset = hashlib.sha256(), 0
    with finished_output.opened_file(path) as found:
        for data in _pieces(found.blocks()):
            whole.update(data)
            sha256 = hashlib.sha256(data).hexdigest()
            yield Segment(run_id, offset, len(data), _NO_FENCE, sha256, whole.hexdigest()), data
            offset += len(data)


def _pieces(blocks: Iterator[bytes]) -> Iterator[bytes]:
    gathered = bytearray()
    for block in blocks:
        gathered += block
        while len(gathered) >= _SEGMENT_BYTES:
            yield bytes(gathered[:_SEGMENT_BYTES])
            del gathered[:_SEGMENT_BYTES]
    if gathered:
        yield bytes(gathered)
