"""The source of a run: pinned at its creation, handed to its runner."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from control_plane.stacks import pinning, snapshot
from control_plane.stacks.errors import SourceUnavailable
from control_plane.stacks.pinning import PinnedSource
from control_plane.storage.tables import runs
from interlock.v1 import stack_pb2
from interlock.v1.runner_service_pb2 import JobSource
from tests.integration.stacks.house import House, a_tar, git_source
from tests.integration.stacks.repository import Repository

COMMIT = "0123456789abcdef0123456789abcdef01234567"


async def job_source(house: House, pinned: PinnedSource) -> JobSource:
    columns: dict[str, Any] = {
        "commit_hash": pinned.commit_hash,
        "commit_ref": pinned.commit_ref,
        "source_sha256": pinned.source_sha256,
        "source_size_bytes": pinned.source_size_bytes,
    }
    run_id = await house.add_run("QUEUED", **columns)

    def unit(tx: sa.Connection) -> JobSource:
        run = tx.execute(sa.select(runs).where(runs.c.id == run_id)).one()
        return pinning.job_source(house.sealer, run, snapshot.load_any(tx, run.stack_id))

    return await house.db.read(unit)


async def test_a_git_source_is_pinned_to_the_commit_of_its_ref(house: House, repository: Repository) -> None:
    stack = await house.create(source=git_source(repository.url))

    pinned = await house.pins.pin(stack)

    assert pinned == PinnedSource(commit_hash=repository.git("rev-parse", "HEAD"), commit_ref="main")


async def test_a_git_source_that_cannot_be_read_is_an_error_with_gits_words(
    house: House, tmp_path: Path
) -> None:
    stack = await house.create(source=git_source(f"file://{tmp_path}/nothing"))
    with pytest.raises(SourceUnavailable, match="nothing"):
        await house.pins.pin(stack)


async def test_an_archive_source_is_pinned_to_its_newest_upload(house: House) -> None:
    empty = await house.create()
    assert await house.pins.pin(empty) == PinnedSource()
    uploaded = await house.upload(a_tar(main=b"x"))

    pinned = await house.pins.pin(uploaded)
    job = await job_source(house, pinned)

    assert (job.archive.sha256, job.archive.size_bytes) == (
        uploaded.archive_sha256,
        uploaded.archive_size_bytes,
    )


async def test_a_stack_without_an_upload_gives_its_runs_an_empty_archive(house: House) -> None:
    await house.create(source=stack_pb2.Source(project_root="infra"))
    job = await job_source(house, PinnedSource())
    assert (job.WhichOneof("kind"), job.archive.sha256, job.project_root) == ("archive", "", "infra")


async def test_a_job_has_address_commit_and_credential_in_the_clear(house: House) -> None:
    await house.create(source=git_source("https://git.example/x", username="ada", password="token"))

    job = await job_source(house, PinnedSource(commit_hash=COMMIT, commit_ref="main"))

    assert (job.git.repository_url, job.git.ref, job.git.commit) == ("https://git.example/x", "main", COMMIT)
    assert (job.git.credential.username, job.git.credential.password) == ("ada", "token")


async def test_a_run_keeps_its_commit_when_the_stacks_ref_changes(house: House) -> None:
    await house.create(source=git_source("https://git.example/x"))
    await house.update("source", source=git_source("https://git.example/x", "other"))
    job = await job_source(house, PinnedSource(commit_hash=COMMIT, commit_ref="main"))
    assert (job.git.ref, job.git.commit) == ("main", COMMIT)


async def test_a_run_of_a_commit_cannot_start_once_the_source_is_git_no_more(house: House) -> None:
    await house.create(source=git_source("https://git.example/x"))
    await house.update("source", source=stack_pb2.Source(archive=stack_pb2.ArchiveSource()))
    with pytest.raises(SourceUnavailable, match="git no more"):
        await job_source(house, PinnedSource(commit_hash=COMMIT, commit_ref="main"))
