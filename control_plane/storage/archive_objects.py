"""Uploaded source archives in an object store. An upload on its way is a file on this machine, where it is checked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from control_plane.storage.archives import CHUNK_BYTES, ArchiveStore, NewArchive, key_of
from control_plane.storage.object_store import ObjectStore

_FETCH_BYTES: Final = 4 << 20


class ObjectArchives(ArchiveStore):
    """Archives in `store`. Those that are files in `folder`, from before it was in use, are found there.

    All methods but `new` raise ObjectStoreUnavailable.
    """

    def __init__(self, folder: Path, store: ObjectStore) -> None:
        super().__init__(folder)
        self._store = store

    async def keep(self, archive: NewArchive) -> None:
        await self._store.put_file(key_of(archive.sha256), archive.path)

    async def remove(self, sha256: str) -> None:
        await self._store.remove(key_of(sha256))
        await super().remove(sha256)

    async def chunks(self, sha256: str) -> AsyncIterator[bytes]:
        try:
            size_bytes = await self._store.size(key_of(sha256))
        except FileNotFoundError:
            async for chunk in super().chunks(sha256):
                yield chunk
            return
        for position in range(0, size_bytes, _FETCH_BYTES):
            part = await self._store.get(key_of(sha256), position, min(_FETCH_BYTES, size_bytes - position))
            for begin in range(0, len(part), CHUNK_BYTES):
                yield part[begin : begin + CHUNK_BYTES]
