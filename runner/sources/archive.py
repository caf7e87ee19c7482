"""A source that somebody uploaded as a tar, checked member by member and written anew for the container.

Nothing is ever unpacked on the host. Refused: members and links that lead out of the workspace, also through other
links; device nodes, pipes and sparse files; an archive that unpacks to too much; one that is damaged or cut off.
Owners, setuid bits and extended attributes do not survive.
"""

from __future__ import annotations

import hashlib
import tarfile
import tempfile
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from lzma import LZMAError
from pathlib import Path
from typing import IO, Self

from runner.errors import SourceRefused, SourceUnavailable
from runner.sources.tree import Kind, Tree
from runner.sources.workspace import SOURCE_IN_TAR, Workspace, folder, owned
from runner.threads import in_own_thread

# Names and times in headers of their own: tarfile reads these whole into memory.
_MAX_EXTRA_HEADER_BYTES = 64 * 1024
_EXTRA_HEADERS = frozenset({
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK,
})  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SourceLimits:
    unpacked_bytes: int = 4 << 30
    members: int = 200_000


async def from_archive(
    chunks: AsyncIterator[bytes],
    *,
    sha256: str,
    work_folder: Path,
    project_root: str = "",
    limits: SourceLimits = SourceLimits(),  # frozen
    into: str = SOURCE_IN_TAR,
) -> Workspace:
    """Receives an archive (plain, or compressed by gzip, bzip2 or xz) and makes the workspace of it, in the folder
    `into`, in which `project_root` must be.

    Raises `SourceRefused`, and `SourceUnavailable` when its digest is not `sha256`.
    """
    with tempfile.TemporaryFile(dir=work_folder) as received:
        digest = hashlib.sha256()
        async for chunk in chunks:
            digest.update(chunk)
            await in_own_thread("source-receive", partial(received.write, chunk))
        if digest.hexdigest() != sha256:
            raise SourceUnavailable(
                f"the archive that arrived is not the one that was uploaded: its SHA-256 is {digest.hexdigest()}, "
                f"expected {sha256}"
            )
        received.seek(0)
        workspace = Workspace.on_disk(work_folder)
        try:
            await in_own_thread(
                "source-unpack", lambda: add_tar(received, workspace, project_root, limits, into)
            )
        except BaseException:
            workspace.close()
            raise
        return workspace


def add_tar(
    stream: IO[bytes],
    workspace: Workspace,
    project_root: str,
    limits: SourceLimits,
    into: str = SOURCE_IN_TAR,
) -> None:
    """Reads a tar from a stream that need not be seekable, and finishes the workspace. Blocks."""
    writer = _Writer(workspace, limits, into)
    try:
        with tarfile.open(fileobj=stream, mode="r|*", tarinfo=_Member) as source:
            for member in source:
                writer.add(member, source)
    except (tarfile.TarError, zlib.error, LZMAError, EOFError) as error:
        raise SourceRefused(f"the source is not a readable tar archive: {error}") from error
    writer.tree.check_links()
    writer.tree.check_folder(project_root)
    workspace.finish()


class _Member(tarfile.TarInfo):
    """Turns what tarfile takes for the archive's silent end into an error."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        try:
            member = super().frombuf(buf, encoding, errors)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # documented in tarfile's source only
            raise
        except tarfile.HeaderError as error:
            raise SourceRefused(f"the source is not a whole tar archive: {error}") from error
        if member.type in _EXTRA_HEADERS and member.size > _MAX_EXTRA_HEADER_BYTES:
            raise SourceRefused(f"the source has a name or header of {member.size} bytes")
        return member


class _Writer:
    """Takes members one by one, in the archive's order."""

    def __init__(self, workspace: Workspace, limits: SourceLimits, into: str) -> None:
        self._into = into
        self.tree = Tree()
        self._tar = workspace.tar
        self._limits = limits
        self._members = 0
        self._unpacked_bytes = 0

    def add(self, member: tarfile.TarInfo, source: tarfile.TarFile) -> None:
        self._count(member)
        kind = _kind(member)
        path = self.tree.path(member.name)
        for parent in self.tree.add(path, kind, member.linkname):
            self._tar.addfile(folder(self._in_tar(parent)))
        if not path:
            return
        written = owned(tarfile.TarInfo(self._in_tar(path)))
        written.mtime = max(0, int(member.mtime))
        written.mode = (member.mode & 0o777) | 0o600
        match kind:
            case Kind.FOLDER:
                written.type, written.mode = tarfile.DIRTYPE, written.mode | 0o700
                self._tar.addfile(written)
            case Kind.LINK:
                written.type, written.linkname, written.mode = tarfile.SYMTYPE, member.linkname, 0o777
                self._tar.addfile(written)
            case Kind.SAME_FILE:
                written.type, written.linkname = (
                    tarfile.LNKTYPE,
                    self._in_tar(self.tree.path(member.linkname)),
                )
                self._tar.addfile(written)
            case Kind.FILE:
                written.size = member.size
                self._tar.addfile(written, source.extractfile(member))

    def _in_tar(self, path: tuple[str, ...]) -> str:
        return "/".join((self._into, *path))

    def _count(self, member: tarfile.TarInfo) -> None:
        self._members += 1
        self._unpacked_bytes += max(0, member.size)
        if self._members > self._limits.members:
            raise SourceRefused(f"the source has more than {self._limits.members} files")
        if self._unpacked_bytes > self._limits.unpacked_bytes:
            raise SourceRefused(f"the source unpacks to more than {self._limits.unpacked_bytes} bytes")


def _kind(member: tarfile.TarInfo) -> Kind:
    if member.issparse():
        raise SourceRefused(f"{member.name!r} in the source is a sparse file")
    if member.isdir():
        return Kind.FOLDER
    if member.issym():
        return Kind.LINK
    if member.islnk():
        return Kind.SAME_FILE
    if member.isreg():
        return Kind.FILE
    raise SourceRefused(
        f"{member.name!r} in the source is a device node, a pipe or something else that is no file"
    )
