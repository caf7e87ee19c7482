"""UploadSource: an archive arrives in chunks, is checked whole, kept on disk, and then becomes the stack's source."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import sqlalchemy as sa
import structlog

from control_plane import clock, errors
from control_plane.audit import events
from control_plane.identity.principal import Principal
from control_plane.stacks import archive_check, snapshot, store
from control_plane.stacks.access import Access
from control_plane.stacks.archive_stream import Unacceptable
from control_plane.stacks.errors import BadArchive, SourceIsGit
from control_plane.stacks.snapshot import StackSnapshot
from control_plane.storage.archives import ArchiveStore, NewArchive
from control_plane.storage.database import Database
from interlock.v1 import stack_service_pb2

log = structlog.get_logger(__name__)


class Uploads:
    """Takes uploads. One that fails leaves the stack, and the disk, as they were."""

    def __init__(self, database: Database, access: Access, archives: ArchiveStore, *, max_bytes: int) -> None:
        self._database = database
        self._access = access
        self._archives = archives
        self._max_bytes = max_bytes

    async def store(
        self, principal: Principal, parts: AsyncIterator[stack_service_pb2.UploadSourceRequest]
    ) -> StackSnapshot:
        """
        Raises:
            errors.InvalidField: the parts are not one header and then chunks.
            errors.LimitExceeded: the header announces more than this server takes.
            SourceIsGit, BadArchive, errors.DiskFull
        """
        header = await _header(parts)
        if header.size_bytes > self._max_bytes:
            raise errors.LimitExceeded(
                f"the archive has {header.size_bytes} bytes; this server takes {self._max_bytes} at most"
            )
        stack = await self._access.writable(principal, header.stack_id)
        if stack.source_kind != "archive":
            raise SourceIsGit(stack.id)
        with self._archives.new() as archive:
            await _receive(parts, archive, header.size_bytes)
            if archive.sha256 != header.sha256:
                raise BadArchive(f"has the SHA-256 {archive.sha256}, not {header.sha256} as announced")
            await _check(archive)
            await self._archives.keep(archive)
        changed = await self._database.write(lambda connection: _point(connection, principal, header))
        log.info(
            "stack.source_uploaded", stack_id=stack.id, sha256=header.sha256, size_bytes=header.size_bytes
        )
        return changed


async def _header(
    parts: AsyncIterator[stack_service_pb2.UploadSourceRequest],
) -> stack_service_pb2.UploadHeader:
    first = await anext(parts, None)
    if first is None or first.WhichOneof("part") != "header":
        raise errors.InvalidField("header", "must come first")
    return first.header


async def _receive(
    parts: AsyncIterator[stack_service_pb2.UploadSourceRequest], archive: NewArchive, size_bytes: int
) -> None:
    async for part in parts:
        if part.WhichOneof("part") != "chunk":
            raise errors.InvalidField("chunk", "is needed in every message after the first")
        if archive.size_bytes + len(part.chunk) > size_bytes:
            raise BadArchive(f"is longer than the {size_bytes} bytes that its header announced")
        await asyncio.to_thread(archive.write, part.chunk)
    if archive.size_bytes != size_bytes:
        raise BadArchive(f"ended after {archive.size_bytes} bytes; its header announced {size_bytes}")


async def _check(archive: NewArchive) -> None:
    try:
        await archive_check.check_apart(archive.path)
    except Unacceptable as error:
        raise BadArchive(str(error)) from error


def _point(
    connection: sa.Connection, principal: Principal, header: stack_service_pb2.UploadHeader
) -> StackSnapshot:
    """Makes the kept archive the stack's source, unless the stack became another meanwhile."""
    held = store.hold(connection, [header.stack_id])
    if not held:
        raise errors.NotFound("stack", header.stack_id)
    if held[0].source_kind != "archive":
        raise SourceIsGit(header.stack_id)
    now = clock.now_us()
    store.change(
        connection,
        header.stack_id,
        archive_sha256=header.sha256,
        archive_size_bytes=header.size_bytes,
        archive_uploaded_at=now,
        updated_at=now,
    )
    events.record(
        connection,
        principal,
        "stack.source_uploaded",
        "stack",
        header.stack_id,
        stack_id=header.stack_id,
        details={"sha256": header.sha256, "size_bytes": header.size_bytes},
    )
    return snapshot.load(connection, header.stack_id)
