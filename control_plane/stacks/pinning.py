"""The source of a run, pinned when the run is created and handed to its runner later."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from control_plane.keys import Sealer
from control_plane.stacks.definition import credential_context
from control_plane.stacks.errors import SourceUnavailable
from control_plane.stacks.git_source import GitFailed, GitRemotes
from control_plane.stacks.snapshot import StackSnapshot
from interlock.v1 import runner_service_pb2, stack_pb2


@dataclass(frozen=True, slots=True)
class PinnedSource:
    """The columns of a run that name a state of its source; all empty for an archive stack without an upload."""

    commit_hash: str = ""
    commit_ref: str = ""
    source_sha256: str = ""
    source_size_bytes: int = 0


class PinnedRun(Protocol):
    """What a run's row says about its source."""

    @property
    def stack_id(self) -> str: ...
    @property
    def commit_hash(self) -> str: ...
    @property
    def commit_ref(self) -> str: ...
    @property
    def source_sha256(self) -> str: ...
    @property
    def source_size_bytes(self) -> int: ...


class SourcePins:
    """Pins sources of stacks."""

    def __init__(self, sealer: Sealer, remotes: GitRemotes) -> None:
        self._sealer = sealer
        self._remotes = remotes

    async def pin(self, stack: StackSnapshot) -> PinnedSource:
        """The commit that the stack's ref is now, or the digest of its newest upload. Asks the git server.

        Raises:
            SourceUnavailable: with git's own message.
        """
        if stack.source_kind == "archive":
            return PinnedSource(
                source_sha256=stack.archive_sha256, source_size_bytes=stack.archive_size_bytes
            )
        credential = _credential(self._sealer, stack)
        try:
            commit = await self._remotes.resolve(stack.git_url, stack.git_ref, credential)
        except GitFailed as error:
            raise SourceUnavailable(stack.id, str(error)) from error
        return PinnedSource(commit_hash=commit, commit_ref=stack.git_ref)


def job_source(sealer: Sealer, run: PinnedRun, stack: StackSnapshot) -> runner_service_pb2.JobSource:
    """What the runner fetches, with the credential in the clear. Address and project root are those of `stack`, as it is
    now.

    Raises:
        SourceUnavailable: the run was pinned to a commit, and the stack's source is git no more.
    """
    source = runner_service_pb2.JobSource(project_root=stack.project_root)
    if not run.commit_hash:
        source.archive.sha256 = run.source_sha256
        source.archive.size_bytes = run.source_size_bytes
        return source
    if stack.source_kind != "git":
        raise SourceUnavailable(
            stack.id, f"the run wants commit {run.commit_hash}, but the source is git no more"
        )
    source.git.repository_url = stack.git_url
    source.git.ref = run.commit_ref
    source.git.commit = run.commit_hash
    if stack.git_credential_sealed is not None:
        source.git.credential.CopyFrom(_credential(sealer, stack))
    return source


def _credential(sealer: Sealer, stack: StackSnapshot) -> stack_pb2.GitCredential:
    """In the clear; empty where there is none."""
    if stack.git_credential_sealed is None:
        return stack_pb2.GitCredential()
    plain = sealer.open(stack.git_credential_sealed, context=credential_context(stack.id))
    return stack_pb2.GitCredential.FromString(plain)
