"""UploadSource: what becomes a stack's source, and what leaves no trace."""

from __future__ import annotations

import asyncio
import hashlib
import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from control_plane import errors
from control_plane.identity.principal import Principal
from control_plane.stacks.errors import BadArchive, SourceIsGit
from control_plane.storage.archives import ArchiveStore
from control_plane.storage.database import Database
from interlock.v1 import stack_pb2
from interlock.v1 import stack_service_pb2 as rpc
from tests.integration.stacks.house import (
    ADMIN,
    MAX_UPLOAD_BYTES,
    READER,
    STRANGER,
    WRITER,
    House,
    a_tar,
    git_source,
    upload_parts,
)

CONTENT = a_tar(main=b"x" * 200_000)


def kept(house: House) -> list[str]:
    return sorted(path.name for path in house.folder.iterdir())


async def test_an_upload_becomes_the_stacks_source(house: House) -> None:
    before = await house.create()

    after = await house.upload(CONTENT)

    sha256 = hashlib.sha256(CONTENT).hexdigest()
    assert (after.archive_sha256, after.archive_size_bytes) == (sha256, len(CONTENT))
    assert after.archive_uploaded_at is not None
    assert after.version == before.version + 1
    assert b"".join([chunk async for chunk in house.archives.chunks(sha256)]) == CONTENT
    assert kept(house) == [sha256]
    [event] = await house.audited("stack.source_uploaded")
    assert (event.caller_login, json.loads(event.details)["sha256"]) == ("will", sha256)


async def test_an_older_archive_stays_for_the_runs_that_need_it(house: House) -> None:
    await house.create()
    first, second = await house.upload(CONTENT), await house.upload(a_tar(other=b"y"))
    assert kept(house) == sorted([first.archive_sha256, second.archive_sha256])


async def test_the_same_archive_twice_is_kept_once(house: House) -> None:
    await house.create("a")
    await house.create("b")
    await house.upload(CONTENT, stack_id="a")
    await house.upload(CONTENT, stack_id="b")
    assert len(kept(house)) == 1


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        ({"sha256": "0" * 64}, "has the SHA-256"),
        ({"size_bytes": len(CONTENT) - 1}, "is longer than"),
        ({"size_bytes": len(CONTENT) + 1}, "ended after"),
    ],
)
async def test_an_archive_that_is_not_what_its_header_said_is_refused(
    house: House, header: dict[str, Any], problem: str
) -> None:
    before = await house.create()
    with pytest.raises(BadArchive, match=problem):
        await house.upload(CONTENT, **header)
    assert await house.load() == before
    assert kept(house) == []
    assert await house.audited("stack.source_uploaded") == []


async def test_an_archive_that_leaves_the_workspace_is_refused(house: House) -> None:
    before = await house.create()
    with pytest.raises(BadArchive, match=r"'\.\.'"):
        await house.upload(a_tar(**{"..__x": b"x"}))
    assert await house.load() == before
    assert kept(house) == []


async def test_an_archive_over_the_limit_is_refused_before_it_is_sent(house: House) -> None:
    await house.create()

    async def parts() -> AsyncIterator[rpc.UploadSourceRequest]:
        header = rpc.UploadHeader(stack_id="network", sha256="0" * 64, size_bytes=MAX_UPLOAD_BYTES + 1)
        yield rpc.UploadSourceRequest(header=header)
        pytest.fail("the rest of the upload was asked for")

    with pytest.raises(errors.LimitExceeded, match=str(MAX_UPLOAD_BYTES)):
        await house.uploads.store(WRITER, parts())


async def test_an_upload_needs_its_header_first_and_chunks_after_it(house: House) -> None:
    await house.create()

    async def two_headers() -> AsyncIterator[rpc.UploadSourceRequest]:
        async for part in upload_parts(CONTENT, "network"):
            yield part
            if part.WhichOneof("part") == "header":
                yield part

    async def chunk_only() -> AsyncIterator[rpc.UploadSourceRequest]:
        yield rpc.UploadSourceRequest(chunk=b"x")

    async def nothing() -> AsyncIterator[rpc.UploadSourceRequest]:
        for part in list[rpc.UploadSourceRequest]():
            yield part

    for parts, field in ((two_headers(), "chunk"), (chunk_only(), "header"), (nothing(), "header")):
        with pytest.raises(errors.InvalidField, match=field):
            await house.uploads.store(WRITER, parts)
    assert kept(house) == []


async def test_an_upload_for_a_git_stack_is_refused(house: House) -> None:
    await house.create(source=git_source("https://git.example/x"))
    with pytest.raises(SourceIsGit):
        await house.upload(CONTENT)
    assert kept(house) == []


@pytest.mark.parametrize(("caller", "error"), [(READER, errors.NotAllowed), (STRANGER, errors.NotFound)])
async def test_who_may_not_write_may_not_upload(
    house: House, caller: Principal, error: type[errors.DomainError]
) -> None:
    await house.create()
    with pytest.raises(error):
        await house.upload(CONTENT, by=caller)
    assert kept(house) == []


async def test_a_stack_that_changes_during_its_upload_keeps_the_change(house: House) -> None:
    await house.create()

    async def parts() -> AsyncIterator[rpc.UploadSourceRequest]:
        async for part in upload_parts(CONTENT, "network"):
            yield part
        await house.update("source", source=git_source("https://git.example/x"))

    with pytest.raises(SourceIsGit):
        await house.uploads.store(WRITER, parts())
    stack = await house.load()
    assert (stack.source_kind, stack.archive_sha256) == ("git", "")


async def test_an_upload_into_a_deleted_stack_is_refused(house: House) -> None:
    await house.create()

    async def parts() -> AsyncIterator[rpc.UploadSourceRequest]:
        async for part in upload_parts(CONTENT, "network"):
            yield part
        await house.stacks.delete(ADMIN, "network", "")

    with pytest.raises(errors.NotFound):
        await house.uploads.store(WRITER, parts())


async def test_a_caller_who_goes_away_in_the_middle_leaves_nothing(house: House) -> None:
    await house.create()
    written = asyncio.Event()

    async def parts() -> AsyncIterator[rpc.UploadSourceRequest]:
        async for part in upload_parts(CONTENT, "network"):
            yield part
            if kept(house):
                written.set()
                await asyncio.Event().wait()

    upload = asyncio.create_task(house.uploads.store(WRITER, parts()))
    await written.wait()
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload
    assert kept(house) == []


async def test_what_a_killed_server_left_is_removed_at_the_next_start(house: House) -> None:
    await house.create()
    await house.upload(CONTENT)
    with house.archives.new() as archive:
        archive.write(b"half of it")
        assert len(kept(house)) == 2
        ArchiveStore(house.folder).open()
        assert len(kept(house)) == 1


async def test_a_file_name_that_is_no_digest_is_never_opened(house: House) -> None:
    for name in ("../interlock.db", "", "A" * 64):
        with pytest.raises(ValueError, match="no SHA-256"):
            house.archives.path(name)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 128 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", folder], check=False)
    if mounted.returncode != 0:
        pytest.skip("needs the right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", folder], check=True)


async def test_a_full_disk_is_said_and_leaves_nothing(db: Database, small_disk: Path) -> None:
    house = House(db, small_disk)
    before = await house.create()
    with pytest.raises(errors.DiskFull):
        await house.upload(CONTENT)
    assert kept(house) == []
    assert await house.load() == before
    await house.upload(a_tar(small=b"x"))


async def test_the_source_of_a_new_stack_is_an_archive_that_may_be_missing(house: House) -> None:
    made = await house.create(source=stack_pb2.Source(archive=stack_pb2.ArchiveSource(sha256="f" * 64)))
    assert (made.source_kind, made.archive_sha256) == ("archive", "")
