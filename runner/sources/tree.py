"""What a source's members make together: which names are folders, and where links lead. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum, auto

from runner.errors import SourceRefused

Path = tuple[str, ...]
"""Its parts, from the source's top; () is the top."""

_MAX_NAME_BYTES = 4096
_MAX_PART_BYTES = 255
_MAX_DEPTH = 256
# As many links in a row as Linux follows.
_MAX_HOPS = 40
# A million steps take two seconds at most; an honest source needs a few for each of its links.
_MAX_STEPS = 1_000_000


class Kind(Enum):
    FOLDER = auto()
    FILE = auto()
    LINK = auto()
    """A symbolic link."""
    SAME_FILE = auto()
    """A hard link to a file that came before."""


class Tree:
    """Refuses by `SourceRefused` whatever would lie, or lead, outside of the source."""

    def __init__(self) -> None:
        self._kinds: dict[Path, Kind] = {(): Kind.FOLDER}
        self._targets: dict[Path, str] = {}
        self._steps = 0

    def path(self, name: str) -> Path:
        """A member's name as a path below the source's top."""
        parts = tuple(part for part in name.split("/") if part not in {"", "."})
        if name.startswith("/") or ".." in parts:
            raise SourceRefused(f"{name!r} in the source leads out of the workspace")
        if len(_encoded(name)) > _MAX_NAME_BYTES or any(
            len(_encoded(part)) > _MAX_PART_BYTES for part in parts
        ):
            raise SourceRefused(f"a name in the source is too long: {name[:80]!r}…")
        if len(parts) > _MAX_DEPTH:
            raise SourceRefused(
                f"a name in the source is more than {_MAX_DEPTH} folders deep: {name[:80]!r}…"
            )
        if "\0" in name:
            raise SourceRefused(f"{name!r} in the source contains a NUL byte")
        return parts

    def add(self, path: Path, kind: Kind, target: str = "") -> list[Path]:
        """Takes a member in; gives the folders above it that no member made, outermost first."""
        implied = list(self._implied_folders(path))
        for parent in implied:
            self._kinds[parent] = Kind.FOLDER
        before = self._kinds.get(path)
        if before is not None and not (before is kind is Kind.FOLDER):
            raise SourceRefused(f"{_shown(path)} occurs twice in the source")
        if kind is Kind.LINK:
            self._add_link(path, target)
        elif kind is Kind.SAME_FILE and self._kinds.get(self.path(target)) not in {Kind.FILE, Kind.SAME_FILE}:
            raise SourceRefused(
                f"{_shown(path)} in the source is a link to {target!r}, which is no file before it"
            )
        self._kinds[path] = kind
        return implied

    def check_links(self) -> None:
        """When all members are in: no link leads out, however many others it goes through."""
        for path, target in self._targets.items():
            if self._resolve(path[:-1], target) is None:
                raise SourceRefused(
                    f"the link {_shown(path)} to {target!r} in the source leads out of the workspace"
                )

    def check_folder(self, project_root: str) -> None:
        """When all members are in: the project root is one of the folders."""
        found = self._resolve((), "/".join(self.path(project_root)))
        if found is None or self._kinds.get(found) is not Kind.FOLDER:
            raise SourceRefused(f"the project root {project_root!r} is not a folder of the source")

    def _implied_folders(self, path: Path) -> Iterator[Path]:
        for length in range(1, len(path)):
            kind = self._kinds.get(path[:length])
            if kind is None:
                yield path[:length]
            elif kind is not Kind.FOLDER:
                raise SourceRefused(
                    f"{_shown(path)} in the source lies below {_shown(path[:length])}, no folder"
                )

    def _add_link(self, path: Path, target: str) -> None:
        if not target or target.startswith("/") or "\0" in target:
            raise SourceRefused(
                f"the link {_shown(path)} to {target!r} in the source leads out of the workspace"
            )
        self._targets[path] = target

    def _resolve(self, start: Path, target: str) -> Path | None:
        """Where a relative path leads, as the kernel would go; None when out. A loop leads to itself."""
        at = list(start)
        pending = target.split("/")[::-1]
        hops = 0
        while pending:
            self._steps += 1
            if self._steps > _MAX_STEPS or len(at) > _MAX_DEPTH or len(pending) > _MAX_NAME_BYTES:
                raise SourceRefused("the source has too many links through one another")
            part = pending.pop()
            if part in {"", "."}:
                continue
            if part == "..":
                if not at:
                    return None
                at.pop()
                continue
            onward = self._targets.get((*at, part))
            if onward is None or hops == _MAX_HOPS:
                at.append(part)
            else:
                hops += 1
                pending.extend(onward.split("/")[::-1])
        return tuple(at)


def _encoded(name: str) -> bytes:
    return name.encode(errors="surrogateescape")


def _shown(path: Path) -> str:
    return repr("/".join(path))
