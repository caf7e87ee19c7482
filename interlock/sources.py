"""Where a stack's files come from, as one call each: `interlock.git(…)` and `interlock.archive()`."""

from interlock.v1.stack_pb2 import ArchiveSource, GitCredential, GitSource, Source


def git(
    repository_url: str,
    *,
    ref: str = "main",
    project_root: str = "",
    credential: GitCredential | None = None,
) -> Source:
    """A git repository at a branch, tag or commit; `project_root` is the folder in it to work in."""
    repository = GitSource(repository_url=repository_url, ref=ref, credential=credential)
    return Source(git=repository, project_root=project_root)


def archive(*, project_root: str = "") -> Source:
    """Files that `client.stacks.push` uploads."""
    return Source(archive=ArchiveSource(), project_root=project_root)
