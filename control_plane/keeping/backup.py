"""Making a backup while the installation serves: the database as of one moment, then every file that it speaks of. Files
only grow or are never changed, so what the database knew is still there afterwards."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

from control_plane.keeping import audit_check, dumps, files, manifest, reading, store, stored
from control_plane.keeping.errors import KeyUnfit, Refused, TargetInUse
from control_plane.keeping.ground import KEY_FILE, Ground
from control_plane.keeping.manifest import FileEntry, Manifest
from control_plane.keeping.progress import Progress
from control_plane.keeping.report import Report
from control_plane.keeping.stored import Stored
from control_plane.keeping.verify import note
from control_plane.keeping.wanted import Examined, Wanted, examine, missing
from control_plane.keys import MasterKey, MasterKeyError
from control_plane.storage import finished_output

_ATTEMPTS: Final = 3
_WANTED: Final = "wanted.jsonl"


@dataclass(frozen=True, slots=True)
class _Moment:
    """What the database said at the moment of its copy."""

    revision: str
    key_fingerprint: str
    archives: frozenset[str]
    kept_plans: frozenset[str]


def make(ground: Ground, target: Path, *, with_master_key: bool, progress: Progress) -> Report:
    """Makes the folder `target`, whole or not at all.

    Raises:
        TargetInUse: there is something at `target`.
        DatabaseUnfit, KeyUnfit, Refused
    """
    _require_free(target)
    report = Report(str(target))
    with _draft(target) as draft, stored.opened(ground) as place:
        moment = _database(ground, place, draft, report, progress)
        key = _key_text(ground, moment.key_fingerprint) if with_master_key else ""
        count = _copy_files(place, draft, moment, report, progress)
        if key:
            _write_private(draft / KEY_FILE, key + "\n")
        made = Manifest(
            made_at=datetime.now(UTC).isoformat(timespec="seconds"),
            made_by=importlib.metadata.version("interlock"),
            revision=moment.revision,
            database_kind=ground.database_url.get_backend_name(),
            database=files.described(draft / dumps.name(ground)),
            files=files.described(draft / manifest.FILES),
            file_count=count,
            key_fingerprint=moment.key_fingerprint,
            has_master_key=bool(key),
            audit_head=report.audit_head,
            audit_fault=next((fault.problem for fault in report.faults if fault.kind == "audit"), ""),
        )
        manifest.write(draft, made)
    if not with_master_key:
        report.notes.append(
            f"the master key is not in it: keep {ground.key_file} or INTERLOCK_MASTER_KEY elsewhere"
        )
    return report


def _database(ground: Ground, place: Stored, draft: Path, report: Report, progress: Progress) -> _Moment:
    """Copies the database, then what plans left: that goes when its run is over, which may be any moment."""
    for attempt in range(1, _ATTEMPTS + 1):
        with dumps.taken(ground, draft, progress) as read:
            moment = _Moment(
                reading.require_shape(read, "the copy"),
                read(store.key_fingerprint),
                frozenset(read(store.archives)),
                frozenset(read(store.kept_plans)),
            )
            absent = [
                sha256 for sha256 in sorted(moment.kept_plans) if not _copy_archive(place, draft, sha256)
            ]
            if not absent or attempt == _ATTEMPTS:
                audit_check.check(read, None, report, progress)
                _list_outputs(read, draft)
                return moment
        # The run of a plan has ended since: another moment will not know it.
        (draft / dumps.name(ground)).unlink()
        shutil.rmtree(draft / "sources", ignore_errors=True)
    raise AssertionError("the last attempt returns")


def _list_outputs(read: reading.Read, draft: Path) -> None:
    """The list is made within the snapshot, which then need not last as long as the copying of files."""
    with (draft / _WANTED).open("w") as lines:
        for wanted in reading.all_outputs(read):
            lines.write(wanted.to_line())


def _copy_files(place: Stored, draft: Path, moment: _Moment, report: Report, progress: Progress) -> int:
    """Writes the list of files; how many there are."""
    count = 0
    with (draft / manifest.FILES).open("w") as listed:

        def add(entry: FileEntry, found: Examined) -> None:
            nonlocal count
            note(report, entry, found)
            listed.write(manifest.line(entry))
            count += 1

        progress.begin("archives", len(moment.archives))
        for entry, found in files.each(partial(_archive, place, draft), sorted(moment.archives)):
            add(entry, found)
            progress.add(found.size_bytes)
        progress.end()
        progress.begin("outputs")
        with (draft / _WANTED).open() as lines:
            for entry_or_none, found in files.each(
                partial(_output, place, draft), map(Wanted.of_line, lines)
            ):
                if entry_or_none is not None:
                    add(entry_or_none, found)
                progress.add(found.size_bytes)
        progress.end()
    (draft / _WANTED).unlink()
    return count


def _archive(place: Stored, draft: Path, sha256: str) -> tuple[FileEntry, Examined]:
    copied = draft / "sources" / sha256
    if not copied.exists() and not _copy_archive(place, draft, sha256):
        _write_private(copied, "")
    part = files.described(copied)
    problem = "" if part.sha256 == sha256 else "where it was stored it is gone or damaged"
    entry = FileEntry(f"sources/{sha256}", part.size_bytes, part.sha256, problem)
    return entry, Examined(part.size_bytes, part.sha256)


def _copy_archive(place: Stored, draft: Path, sha256: str) -> bool:
    try:
        with place.archive(sha256) as found:
            found.copy_to(draft / "sources" / sha256)
    except FileNotFoundError:
        return False
    return True


def _output(place: Stored, draft: Path, wanted: Wanted) -> tuple[FileEntry | None, Examined]:
    """Copies what there is, compressed or not, and examines the copy."""
    target = finished_output.path_of(draft / "output", wanted.run_id)
    with place.output(wanted.run_id) as there:
        if there is None:
            found = missing(wanted)
            if not found.problem:
                return None, found
            _write_private(target, "")
        else:
            target = there.copy_to(target)
            with finished_output.opened_file(target) as copied:
                found = examine(wanted, copied.blocks())
    path = str(target.relative_to(draft))
    entry = FileEntry(path, found.size_bytes, found.sha256, found.problem)
    return entry, Examined(found.size_bytes, found.sha256)


def _key_text(ground: Ground, fingerprint: str) -> str:
    try:
        text = (ground.master_key or ground.key_file.read_text()).strip()
        fits = MasterKey.from_hex(text).fingerprint == fingerprint
    except (OSError, MasterKeyError) as error:
        raise KeyUnfit(
            f"the master key was asked for and cannot be had: {error}; set INTERLOCK_MASTER_KEY as for the server"
        ) from error
    if not fits:
        raise KeyUnfit(
            "the master key that was asked for is not the one that the database's secrets are sealed under"
        )
    return text


def _require_free(target: Path) -> None:
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise TargetInUse(f"{target} is there and is no folder; name one that is not there yet")
    if target.is_dir() and any(target.iterdir()):
        raise TargetInUse(
            f"{target} is not empty; name a folder that is not there yet: each backup has its own"
        )
    if not target.resolve().parent.is_dir():
        raise Refused(f"{target.resolve().parent} is not there; make it first, or is its disk not mounted?")


@contextmanager
def _draft(target: Path) -> Iterator[Path]:
    """A folder beside the target that takes its place at the end, and goes if anything fails."""
    target = target.resolve()
    draft = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
    try:
        yield draft
        files.sync_tree(draft)
        draft.rename(target)
        finished_output.sync_folder(target.parent)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def _write_private(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
