"""Sending a stack's source: a tar archive in chunks, its digest first."""

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from interlock import packing
from interlock.errors import Misconfigured
from interlock.transport import Metadata, Transport
from interlock.v1.stack_pb2 import Stack
from interlock.v1.stack_service_pb2 import UploadHeader, UploadSourceRequest

if TYPE_CHECKING:
    from interlock.v1.stack_service_pb2_grpc import StackServiceAsyncStub

CHUNK_BYTES = 256 * 1024
UPLOAD_TIMEOUT_S = 3600.0

Report = Callable[[int, int], None]


def unreported(sent_bytes: int, total_bytes: int) -> None:
    """The progress report of who does not want one."""


async def pack_and_send(
    transport: Transport, stub: "StackServiceAsyncStub", stack_id: str, directory: Path, progress: Report
) -> Stack:
    with tempfile.TemporaryDirectory(prefix="interlock-push-") as folder:
        archive_file = Path(folder, "source.tar.gz")
        await asyncio.to_thread(packing.pack, directory, archive_file)
        return await send(transport, stub, stack_id, archive_file, progress)


async def send(
    transport: Transport, stub: "StackServiceAsyncStub", stack_id: str, archive_file: Path, progress: Report
) -> Stack:
    header = await asyncio.to_thread(_header, stack_id, archive_file)

    async def attempt(metadata: Metadata) -> Stack:
        parts = _parts(header, archive_file, progress)
        return await stub.UploadSource(parts, metadata=metadata, timeout=UPLOAD_TIMEOUT_S)

    return await transport.persist(attempt)


async def _parts(
    header: UploadHeader, archive_file: Path, progress: Report
) -> AsyncIterator[UploadSourceRequest]:
    yield UploadSourceRequest(header=header)
    sent_bytes = 0
    with archive_file.open("rb") as archive:
        while chunk := await asyncio.to_thread(archive.read, CHUNK_BYTES):
            yield UploadSourceRequest(chunk=chunk)
            sent_bytes += len(chunk)
            progress(sent_bytes, header.size_bytes)


def _header(stack_id: str, archive_file: Path) -> UploadHeader:
    try:
        with archive_file.open("rb") as archive:
            digest = hashlib.file_digest(archive, "sha256").hexdigest()
            return UploadHeader(stack_id=stack_id, sha256=digest, size_bytes=archive.tell())
    except OSError as error:
        raise Misconfigured(f"{archive_file}: {error.strerror}") from error
