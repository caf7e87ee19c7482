"""A run's workspace as a tar, ready to be unpacked at a container's root: owner 1983, nothing that leaves it.

The tar lies in a file without a name, so that nothing of it is left on the host, whatever happens.
"""

from __future__ import annotations

import io
import tarfile
import tempfile
from pathlib import Path
from typing import BinaryIO, Self

from runner.engine import RUN_UID
from runner.script import HOME, PLAN, SCRATCH, SOURCE, WORKSPACE

SOURCE_IN_TAR = SOURCE.lstrip("/")
WORKSPACE_IN_TAR = WORKSPACE.lstrip("/")
_FOLDERS = {WORKSPACE: 0o755, SOURCE: 0o755, HOME: 0o700, SCRATCH: 0o700, PLAN: 0o700}


class Workspace:
    """Add the source's members to `tar`, `finish`, then `archive()` may be read, any number of times."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.is_empty = False
        # Docker's and Go's tar read PAX; it has no limits on lengths of names or sizes.
        self.tar = tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115
        for path, mode in _FOLDERS.items():
            self.tar.addfile(folder(path.lstrip("/"), mode))

    @classmethod
    def empty(cls) -> Workspace:
        """Folders only: the stack has no source yet."""
        workspace = cls(io.BytesIO())
        workspace.finish()
        workspace.is_empty = True
        return workspace

    @classmethod
    def on_disk(cls, work_folder: Path) -> Workspace:
        return cls(tempfile.TemporaryFile(dir=work_folder))

    def finish(self) -> None:
        self.tar.close()

    def archive(self) -> BinaryIO:
        self._file.seek(0)
        return self._file

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def folder(name: str, mode: int = 0o755) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.mode = tarfile.DIRTYPE, mode
    return owned(member)


def owned(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Makes the run's user the owner."""
    member.uid = member.gid = RUN_UID
    member.uname = member.gname = ""
    return member
