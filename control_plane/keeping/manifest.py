"""What a backup says of itself. A folder:

backup.json       this manifest, written last, with a digest of itself
database.sqlite   or database.pgdump: the database as it was at one moment
files.jsonl       one line for each file below output/ and sources/: its length and SHA-256, before compression
output/XX/…       run output, as in the data folder
sources/SHA256    uploaded archives, and what plans left
master.key        only where it was asked for
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from control_plane.keeping.errors import DamagedBackup, NewerBackup, NotABackup

NAME: Final = "backup.json"
FILES: Final = "files.jsonl"
_FORMAT: Final = "interlock-backup"
_VERSION: Final = 1
# By the kind of database: what its dump is called.
DATABASES: Final = {"sqlite": "database.sqlite", "postgresql": "database.pgdump"}
_PATH: Final = re.compile(r"output/[0-9a-z]{2}/(run_[0-9a-z]+)\.log(?:\.zst)?|sources/[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class StoredPart:
    """A file of the backup itself."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    made_at: str
    made_by: str  # the release
    revision: str
    database_kind: str  # "sqlite" or "postgresql"
    database: StoredPart
    files: StoredPart
    file_count: int
    key_fingerprint: str
    has_master_key: bool
    # SEQUENCE:HASH of the newest seal, and what was wrong with the log when the backup was made.
    audit_head: str
    audit_fault: str = ""


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file below output/ or sources/. `problem`: it was already so when the backup was made."""

    path: str
    size_bytes: int
    sha256: str
    problem: str = ""

    @property
    def run_id(self) -> str:
        """Whose output it is; empty for an archive."""
        match = _PATH.fullmatch(self.path)
        return (match[1] or "") if match else ""


def write(folder: Path, manifest: Manifest) -> None:
    content = {"format": _FORMAT, "version": _VERSION, **asdict(manifest)}
    content["sha256"] = _digest(content)
    (folder / NAME).write_text(json.dumps(content, indent=2) + "\n")


def read(folder: Path) -> Manifest:
    """
    Raises:
        NotABackup, NewerBackup, DamagedBackup
    """
    try:
        content = json.loads((folder / NAME).read_bytes())
    except (FileNotFoundError, NotADirectoryError) as error:
        what = f"there is no {NAME} in it" if folder.is_dir() else "it is no folder"
        raise NotABackup(
            f"{folder} is not a backup, or one that was never finished: {what}. "
            "Give the folder that `interlock admin backup` has made"
        ) from error
    except ValueError as error:
        raise NotABackup(
            f"{folder / NAME} is not JSON ({error}): it is not of a backup, or damaged"
        ) from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise NotABackup(f"{folder / NAME} does not say that it is of a backup of Interlock")
    version = content.get("version")
    if isinstance(version, int) and version > _VERSION:
        raise NewerBackup(
            f"{folder} was made by a newer Interlock ({content.get('made_by')}), in a form that this one does not "
            "know: use that release"
        )
    return _checked(folder, content)


def entries(folder: Path) -> Iterator[FileEntry]:
    """Raises DamagedBackup at a line that is none."""
    with (folder / FILES).open() as lines:
        for number, line in enumerate(lines, 1):
            try:
                entry = FileEntry(**json.loads(line))
            except (ValueError, TypeError) as error:
                raise DamagedBackup(f"line {number} of {folder / FILES} is damaged") from error
            if not _PATH.fullmatch(entry.path):
                raise DamagedBackup(f"line {number} of {folder / FILES} names {entry.path!r}")
            yield entry


def line(entry: FileEntry) -> str:
    content = asdict(entry)
    if not entry.problem:
        del content["problem"]
    return json.dumps(content) + "\n"


def _checked(folder: Path, content: dict[str, Any]) -> Manifest:
    claimed = content.pop("sha256", None)
    if claimed != _digest(content):
        raise DamagedBackup(f"{folder / NAME} was changed after the backup was made: its digest is another")
    del content["format"], content["version"]
    try:
        for name in ("database", "files"):
            content[name] = StoredPart(**content[name])
        manifest = Manifest(**content)
    except TypeError as error:
        raise DamagedBackup(f"{folder / NAME} is not as Interlock writes it: {error}") from error
    # They name files below the backup, and below the place that it is restored to.
    if manifest.files.name != FILES or manifest.database.name != DATABASES.get(manifest.database_kind):
        raise DamagedBackup(
            f"{folder / NAME} names {manifest.files.name!r} and {manifest.database.name!r} as its parts, "
            f"which no backup of a database on {manifest.database_kind} has"
        )
    return manifest


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
