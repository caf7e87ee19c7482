"""Files that a stack mounts into its runs' workspaces: a tar in memory, since secret ones must not lie on the host.

In the container they live as long as it does, and are removed with it.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass, field

from runner.errors import SourceRefused
from runner.script import HOME, SCRATCH, SOURCE, WORKSPACE
from runner.sources.tree import Kind, Tree
from runner.sources.workspace import folder, owned

_FOLDERS = {path.removeprefix(f"{WORKSPACE}/") for path in (HOME, SCRATCH, SOURCE)}


@dataclass(frozen=True, kw_only=True)
class MountedFile:
    path: str
    """Relative to /mnt/workspace, as in source/override.tf."""
    content: bytes = field(repr=False)
    is_secret: bool = False


def archive_of(files: Iterable[MountedFile]) -> bytes:
    """To be unpacked after the source, whose files they replace. Raises `SourceRefused` for a path that leaves."""
    tree = Tree()
    for name in _FOLDERS:
        tree.add((name,), Kind.FOLDER)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for file in files:
            path = tree.path(file.path)
            if not path or file.path.endswith("/"):
                raise SourceRefused(f"a mounted file cannot have the path {file.path!r}")
            for parent in tree.add(path, Kind.FILE):
                tar.addfile(folder(_in_tar(parent)))
            member = owned(tarfile.TarInfo(_in_tar(path)))
            member.size, member.mode = len(file.content), 0o600 if file.is_secret else 0o644
            tar.addfile(member, io.BytesIO(file.content))
    return archive.getvalue()


def _in_tar(path: tuple[str, ...]) -> str:
    return "/".join((WORKSPACE.lstrip("/"), *path))
