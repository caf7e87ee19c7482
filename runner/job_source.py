"""The files of a job: its commit or its archive as a workspace, and what is mounted into that."""

from __future__ import annotations

from interlock.v1.runner_service_pb2 import RUN_PART_APPLY, AssignmentRef, Job, PinnedGit
from runner import kept_plan
from runner.errors import SourceRefused, SourceUnavailable
from runner.files import MountedFile, archive_of
from runner.secret import Secret
from runner.sources.archive import from_archive
from runner.sources.git import GitCredential, GitSource, from_git
from runner.sources.workspace import WORKSPACE_IN_TAR, Workspace
from runner.workshop import Workshop


async def workspace_of(job: Job, assignment: AssignmentRef, workshop: Workshop) -> Workspace:
    """Raises `SourceRefused` and `SourceUnavailable`."""
    try:
        return await _workspace_of(job, assignment, workshop)
    except OSError as error:
        raise SourceUnavailable(f"the source cannot be put on the runner's disk: {error.strerror}") from error


async def _workspace_of(job: Job, assignment: AssignmentRef, workshop: Workshop) -> Workspace:
    root = job.source.project_root
    if job.part == RUN_PART_APPLY:
        return await from_archive(
            workshop.fetch_archive(assignment),
            sha256=job.kept_plan.sha256,
            work_folder=workshop.folder,
            project_root=f"{kept_plan.SOURCE_IN_KEPT}/{root}".rstrip("/"),
            into=WORKSPACE_IN_TAR,
        )
    if job.source.HasField("git"):
        source = _git(job.source.git, workshop.git_protocols)
        return await from_git(source, work_folder=workshop.folder, project_root=root)
    if job.source.archive.sha256:
        return await from_archive(
            workshop.fetch_archive(assignment),
            sha256=job.source.archive.sha256,
            work_folder=workshop.folder,
            project_root=root,
        )
    if root:
        raise SourceRefused(
            f"the stack has no files yet, so its project root {root!r} is not there: push them"
        )
    return Workspace.empty()


def mounted_files(job: Job) -> bytes:
    """A tar to be unpacked over the workspace. Raises `SourceRefused`."""
    return archive_of(
        MountedFile(path=file.path, content=file.content, is_secret=file.secret) for file in job.files
    )


def _git(git: PinnedGit, protocols: frozenset[str]) -> GitSource:
    credential = git.credential
    return GitSource(
        url=git.repository_url,
        commit=git.commit,
        protocols=protocols,
        credential=GitCredential(
            username=credential.username,
            password=Secret(credential.password),
            ssh_private_key=Secret(credential.ssh_private_key),
            ssh_known_hosts=credential.ssh_known_hosts,
        ),
    )
