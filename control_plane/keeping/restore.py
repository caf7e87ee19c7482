"""Putting a backup into an empty place. Everything is written beside its place first and checked there; the database
comes last. While that lasts there is a folder `restore.part`, with which no server starts."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from control_plane.keeping import dumps, files, manifest, reading, store, uploading
from control_plane.keeping.errors import (
    DamagedBackup,
    DatabaseUnfit,
    KeyUnfit,
    NewerBackup,
    Refused,
    TargetInUse,
)
from control_plane.keeping.ground import KEY_FILE, UNFINISHED, Ground
from control_plane.keeping.manifest import FileEntry, Manifest
from control_plane.keeping.progress import Progress
from control_plane.keeping.report import Report
from control_plane.keeping.verify import entry_at, note, require_same
from control_plane.keeping.wanted import Examined
from control_plane.keys import MasterKey, MasterKeyError
from control_plane.storage import finished_output, shape

_LOCK: Final = "server.lock"
# What may be there before: the key, put back by hand, and what holds nothing.
_HARMLESS: Final = frozenset({KEY_FILE, _LOCK, "storage.id"})


def put_back(backup: Path, ground: Ground, progress: Progress) -> Report:
    """
    Raises:
        NotABackup, NewerBackup, DamagedBackup: of the backup.
        TargetInUse, DatabaseUnfit, KeyUnfit, Refused: of the place that it is to go to. Nothing was changed.
    """
    made = manifest.read(backup)
    _require_fit(made, ground, backup)
    _require_empty(ground)
    key = _key(made, ground, backup)
    report = Report(str(ground.shared_dir), audit_head=made.audit_head)
    with _held(ground), _undone_at_failure(ground) as moved:
        part = ground.shared_dir / UNFINISHED
        _copy_parts(backup, made, part, report, progress)
        if key:
            shutil.copyfile(backup / KEY_FILE, part / KEY_FILE)
            (part / KEY_FILE).chmod(0o600)
        if ground.object_store is not None:
            uploading.upload(part, ground.object_store, progress)
            for name in ("sources", "output"):
                shutil.rmtree(part / name, ignore_errors=True)
        files.sync_tree(part)
        for name, place in (
            ("sources", ground.archives),
            ("output", ground.output),
            (KEY_FILE, ground.key_file),
        ):
            if (part / name).exists():
                _move(part / name, place)
                moved.append(place)
        _put_database(part, made, ground, moved, progress)
    if not key and not ground.master_key and not ground.key_file.exists():
        report.notes.append(
            f"put the master key back to {ground.key_file} (mode 0600), or set INTERLOCK_MASTER_KEY"
        )
    report.notes.append("start the server, then note what `interlock audit verify` prints")
    return report


def _require_fit(made: Manifest, ground: Ground, backup: Path) -> None:
    kind = ground.database_url.get_backend_name()
    if made.database_kind != kind:
        raise DatabaseUnfit(
            f"{backup} is of a database on {made.database_kind}, and INTERLOCK_DATABASE_URL names one on {kind}"
        )
    if not reading.is_known(made.revision):
        raise NewerBackup(
            f"the database in {backup} has the shape of a newer Interlock (revision {made.revision}, {made.made_by}), "
            "unknown to this one: use that release"
        )
    if ground.object_store is not None and made.revision != shape.newest():
        raise DatabaseUnfit(
            f"the database in {backup} has the shape of an older Interlock (revision {made.revision}), which knows too "
            "little of object stores: restore it without INTERLOCK_OBJECT_STORE_URL"
        )
    if not ground.is_sqlite:
        dumps.require_tools()


def _require_empty(ground: Ground) -> None:
    for folder in (ground.data_dir, ground.shared_dir):
        if not folder.exists():
            continue
        if (folder / UNFINISHED).exists():
            raise TargetInUse(f"a restore into {folder} did not end: empty that folder, then restore again")
        if found := sorted(path.name for path in folder.iterdir() if path.name not in _HARMLESS):
            raise TargetInUse(
                f"{folder} is not empty: it has {', '.join(found[:3])}. A backup is restored into an empty data folder; "
                "set INTERLOCK_DATA_DIR to another one, or move what is there away"
            )
    if ground.is_sqlite:
        if ground.sqlite_file.exists():
            raise TargetInUse(
                f"there is a database at {ground.sqlite_file}; move it away, or name another one"
            )
        return
    with reading.opened(ground) as engine:
        tables = sa.inspect(engine).get_table_names()
    if tables:
        raise TargetInUse(
            f"the database {ground.database_url.render_as_string()} is not empty: it has a table {tables[0]}. "
            "Make a new one (createdb), and name it in INTERLOCK_DATABASE_URL"
        )


def _key(made: Manifest, ground: Ground, backup: Path) -> bool:
    """Whether the backup's own key is to be put back; a key that is there must be the right one."""
    if not (is_there := bool(ground.master_key) or ground.key_file.exists()) and not made.has_master_key:
        return False
    where = (
        "INTERLOCK_MASTER_KEY" if ground.master_key else ground.key_file if is_there else backup / KEY_FILE
    )
    try:
        if ground.master_key:
            key = MasterKey.from_hex(ground.master_key)
        elif is_there:
            key = MasterKey.from_file(ground.key_file)
        else:
            key = MasterKey.from_hex((backup / KEY_FILE).read_text())
    except (MasterKeyError, OSError) as error:
        raise KeyUnfit(f"the master key in {where} cannot be used: {error}") from error
    if key.fingerprint != made.key_fingerprint:
        raise KeyUnfit(
            f"the master key in {where} is not the one that the secrets in the backup are sealed under: "
            "put that one there, or none"
        )
    return not is_there


def _copy_parts(backup: Path, made: Manifest, part: Path, report: Report, progress: Progress) -> None:
    for described in (made.files, made.database):
        require_same(backup, described)
        with finished_output.opened_file(backup / described.name) as stored:
            files.copy(stored.file, part / described.name, described.size_bytes)
        require_same(part, described)
    progress.begin("files", made.file_count)
    for entry, found in files.each(_copied_to(part, backup), manifest.entries(part)):
        if found.problem:
            whose = f"output of {entry.run_id}" if entry.run_id else "archive"
            raise DamagedBackup(
                f"{backup / entry.path} ({whose}) is damaged: {found.problem}. Use another backup; "
                f"`interlock admin verify {backup}` names all that is damaged"
            )
        note(report, entry, found)
        progress.add(found.size_bytes)
    progress.end()


def _copied_to(part: Path, backup: Path) -> Callable[[FileEntry], tuple[FileEntry, Examined]]:
    def copy(entry: FileEntry) -> tuple[FileEntry, Examined]:
        try:
            with finished_output.opened_file(backup / entry.path) as stored:
                files.copy(stored.file, part / entry.path, (backup / entry.path).stat().st_size)
        except FileNotFoundError:
            return entry, Examined(0, "", "it is gone")
        return entry_at(part, entry)

    return copy


def _put_database(part: Path, made: Manifest, ground: Ground, moved: list[Path], progress: Progress) -> None:
    dump = part / made.database.name
    details = {"made_at": made.made_at, "audit_head": made.audit_head}
    if ground.is_sqlite:
        connection = reading.connect_sqlite(dump, "mode=rw")
        engine = sa.create_engine("sqlite://", creator=lambda: connection, poolclass=sa.StaticPool)
        try:
            _tell(engine, details, part)
        finally:
            engine.dispose()
            connection.close()
        files.sync_tree(part)
        _move(dump, ground.sqlite_file)
        moved.append(ground.sqlite_file)
        return
    dumps.put_back_postgresql(ground, dump, progress)
    with reading.opened(ground) as engine:
        _tell(engine, details, part)


def _tell(engine: sa.Engine, details: Mapping[str, object], part: Path) -> None:
    with engine.connect() as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        in_objects = (part / uploading.ROWS).exists()
        store.arrived(connection, details, in_objects=in_objects, uploaded=uploading.listed(part))
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("COMMIT")
        connection.commit()


@contextmanager
def _held(ground: Ground) -> Iterator[None]:
    """No server starts here meanwhile."""
    ground.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    ground.shared_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (ground.data_dir / _LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise TargetInUse(
                f"a control plane uses {ground.data_dir}; stop it, or name another folder"
            ) from error
        yield


@contextmanager
def _undone_at_failure(ground: Ground) -> Iterator[list[Path]]:
    """Everything that the block says it has moved goes again if it fails; the folder was empty before."""
    part = ground.shared_dir / UNFINISHED
    part.mkdir(mode=0o700)
    finished_output.sync_folder(ground.shared_dir)
    moved: list[Path] = []
    try:
        yield moved
    except BaseException:
        for path in moved:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        raise
    finally:
        shutil.rmtree(part)
        finished_output.sync_folder(ground.shared_dir)


def _move(source: Path, target: Path) -> None:
    """Atomically. A file may come from another disk: then it is copied beside its place first."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if source.stat().st_dev != target.parent.stat().st_dev:
            draft = target.with_name(f".{target.name}.part")
            with finished_output.opened_file(source) as stored:
                files.copy(stored.file, draft, source.stat().st_size)
            source = draft
        source.rename(target)
        finished_output.sync_folder(target.parent)
    except OSError as error:
        raise Refused(f"{target} cannot be made: {error.strerror}") from error
