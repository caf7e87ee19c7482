"""Where what is not in the database is kept: files in a folder, or an object store."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from control_plane import errors
from control_plane.object_address import ObjectAddress
from control_plane.storage.archives import ArchiveStore
from control_plane.storage.database import Database
from control_plane.storage.output_files import OutputFiles
from control_plane.storage.outputs import Outputs

if TYPE_CHECKING:
    from control_plane.storage.object_store import ObjectStore

_ID: Final = "storage.id"

log = structlog.get_logger(__name__)


class CannotKeep(Exception):
    """The place cannot be used; the message says what to do."""


@dataclass(frozen=True)
class Place:
    """`files`: what was kept in files, which `outputs` is where there is no object store."""

    outputs: Outputs
    files: OutputFiles
    archives: ArchiveStore
    _shared_dir: Path
    _address: ObjectAddress | None
    # None: there is none in use.
    store: ObjectStore | None

    async def identity(self, data_dir: Path) -> str:
        """Tells one place from another, whatever it is called on each machine. Made once.

        Raises:
            CannotKeep: the object store is away, and this control plane has never used it before.
        """
        if self.store is None:
            return await asyncio.to_thread(_of_folder, self._shared_dir)
        known = data_dir / "object-store.id"
        try:
            found = (await self.store.put_first(_ID, secrets.token_hex(16).encode())).decode()
        except errors.ObjectStoreUnavailable as error:
            address, _, found = known.read_text().partition("\n") if known.exists() else ("", "", "")
            if address != str(self._address):
                raise CannotKeep(
                    f"INTERLOCK_OBJECT_STORE_URL={self._address}: {error.message}; see that the bucket is there, "
                    "and may be written to with the credentials in the environment"
                ) from error
            log.warning("output.store_away", cause=error.message)
        else:
            known.write_text(f"{self._address}\n{found}")
        return found


def make(db: Database, *, shared_dir: Path, address: ObjectAddress | None, is_shared: bool) -> Place:
    """`is_shared`: other control planes use it, too. Nothing is dialled.

    Raises:
        CannotKeep: the object store's client is not installed.
    """
    files = OutputFiles(shared_dir / "output")
    if address is None:
        archives = ArchiveStore(shared_dir / "sources")
        archives.open(is_shared=is_shared)
        return Place(files, files, archives, shared_dir, None, None)
    try:
        from control_plane.storage.archive_objects import ObjectArchives  # noqa: PLC0415  # an extra
        from control_plane.storage.object_store import ObjectStore  # noqa: PLC0415
        from control_plane.storage.output_objects import OutputObjects  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if error.name != "obstore":
            raise
        raise CannotKeep(
            "INTERLOCK_OBJECT_STORE_URL is set, and its client is not installed: pip install 'interlock[server,objects]'"
        ) from error
    store = ObjectStore(address)
    in_objects = ObjectArchives(shared_dir / "sources", store)
    in_objects.open(is_shared=is_shared)
    return Place(OutputObjects(db, store, files), files, in_objects, shared_dir, address, store)


def _of_folder(shared_dir: Path) -> str:
    file, own = shared_dir / _ID, secrets.token_hex(16)
    draft = file.with_name(f"{file.name}.{own}")
    draft.write_text(own)
    with contextlib.suppress(FileExistsError):
        os.link(draft, file)
    draft.unlink()
    return file.read_text()
