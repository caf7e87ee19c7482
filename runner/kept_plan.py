"""What a tracked run's plan leaves in its container: read out once it has ended, and kept for the apply.

Kept are the source as the plan saw it, with what init and hooks put there, and the plan's folder. Left out are the
providers: the apply's own init fetches the same ones, since they are locked, and they are most of the bytes.
"""

from __future__ import annotations

import io
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, BinaryIO, Final, Self

from runner.script import NO_CHANGES, PLAN, PLAN_JSON, SOURCE, WORKSPACE

SOURCE_IN_KEPT: Final = SOURCE.removeprefix(f"{WORKSPACE}/")
_PLAN_IN_KEPT: Final = PLAN.removeprefix(f"{WORKSPACE}/")
_WORKSPACE_NAME: Final = Path(WORKSPACE).name
_PROVIDERS: Final = (".terraform", "providers")
# Of a plan told as JSON: more is not read, and the numbers stay unknown.
MAX_JSON_BYTES: Final = 64 << 20


@dataclass
class Left:
    """`archive` lies in a file without a name; its members are below SOURCE_IN_KEPT and the plan's folder."""

    archive: BinaryIO
    has_changes: bool = True
    json: bytes | None = None

    @classmethod
    def on_disk(cls, folder: Path) -> Left:
        return cls(tempfile.TemporaryFile(dir=folder))

    def take(self, stream: BinaryIO) -> None:
        """Reads the container's tar of its workspace. Blocks. A second time, it begins anew."""
        self.archive.seek(0)
        self.archive.truncate()
        self.has_changes, self.json = True, None
        with (
            tarfile.open(fileobj=stream, mode="r|") as workspace,
            tarfile.open(
                fileobj=self.archive, mode="w:gz", compresslevel=1, format=tarfile.PAX_FORMAT
            ) as kept,
        ):
            for member in workspace:
                self._add(member, workspace, kept)
        self.archive.seek(0)

    def _add(self, member: tarfile.TarInfo, workspace: tarfile.TarFile, kept: tarfile.TarFile) -> None:
        name = _name(member.name)
        if not _is_kept(name):
            return
        if name == f"{_PLAN_IN_KEPT}/{NO_CHANGES}":
            self.has_changes = False
        member.name = name
        if member.islnk():
            member.linkname = _name(member.linkname)
            if not _is_kept(member.linkname):
                return
        content: IO[bytes] | None = workspace.extractfile(member) if member.isreg() else None
        if name == f"{_PLAN_IN_KEPT}/{PLAN_JSON}" and content is not None and member.size <= MAX_JSON_BYTES:
            # Hooks of the apply may want it; it is in what is kept, too.
            self.json = content.read()
            content = io.BytesIO(self.json)
        kept.addfile(member, content)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.archive.close()


def _name(name: str) -> str:
    """Within the workspace."""
    return name.removeprefix("./").removeprefix(_WORKSPACE_NAME).strip("/")


def _is_kept(name: str) -> bool:
    parts = tuple(name.split("/"))
    is_provider = any(parts[i : i + 2] == _PROVIDERS for i in range(len(parts) - 1))
    return parts[0] in {SOURCE_IN_KEPT, _PLAN_IN_KEPT} and not is_provider
