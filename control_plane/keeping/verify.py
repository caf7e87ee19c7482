"""Whether all that is stored is what the records say: of an installation, while it serves, and of a backup."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from control_plane.audit.chain import Head
from control_plane.keeping import audit_check, dumps, files, manifest, reading, store, stored
from control_plane.keeping.errors import DamagedBackup
from control_plane.keeping.ground import KEY_FILE, Ground
from control_plane.keeping.manifest import FileEntry, Manifest, StoredPart
from control_plane.keeping.progress import Progress
from control_plane.keeping.report import Fault, Report
from control_plane.keeping.stored import Stored
from control_plane.keeping.wanted import Examined, Point, Wanted, examine, missing
from control_plane.keys import MasterKey, MasterKeyError
from control_plane.storage import finished_output


def installation(ground: Ground, known_head: Head | None, progress: Progress) -> Report:
    """Reads every output and archive that the database knows, and the whole audit log.

    Raises:
        DatabaseUnfit: there is none, or it has another shape than this release's.
    """
    report = Report(f"{ground.shared_dir}, {ground.database_url.render_as_string()}")
    with reading.live(ground) as read, stored.opened(ground) as place:
        if ground.is_sqlite and (problem := dumps.problem(ground.sqlite_file, "mode=rw")):
            report.faults.append(Fault("database", str(ground.sqlite_file), problem))
        progress.begin("outputs")
        for wanted, found in files.each(partial(_output, place), reading.all_outputs(read)):
            if found.size_bytes or found.problem:
                report.count("output", found.size_bytes)
            if found.problem:
                report.faults.append(Fault("output", wanted.run_id, found.problem))
            progress.add(found.size_bytes)
        progress.end()
        _archives(place, read, report, progress)
        audit_check.check(read, known_head, report, progress)
    return report


def backup(folder: Path, progress: Progress) -> Report:
    """Reads all of a backup.

    Raises:
        NotABackup, NewerBackup
        DamagedBackup: it does not even say any more what belongs to it.
    """
    made = manifest.read(folder)
    report = Report(str(folder), audit_head=made.audit_head)
    if made.audit_fault:
        report.faults.append(Fault("audit", "log", made.audit_fault, is_old=True))
    require_same(folder, made.files)
    progress.begin("files", made.file_count)
    for entry, found in files.each(partial(entry_at, folder), manifest.entries(folder)):
        note(report, entry, found)
        progress.add(found.size_bytes)
    progress.end()
    _database(folder, made, report, progress)
    _key(folder, made, report)
    return report


def entry_at(folder: Path, entry: FileEntry) -> tuple[FileEntry, Examined]:
    """What there is of one file of a backup, or of a copy of it."""
    wanted = Wanted(entry.run_id, (Point(entry.size_bytes, entry.sha256),), is_all=True)
    path = folder / entry.path
    try:
        with finished_output.opened_file(path) as stored:
            return entry, examine(wanted, stored.blocks())
    except FileNotFoundError:
        return entry, Examined(0, "", f"{path} is gone")
    except OSError as error:
        return entry, Examined(0, "", f"{path} cannot be read: {error.strerror}")


def note(report: Report, entry: FileEntry, found: Examined) -> None:
    """Counts a file, and what is wrong with it now or was so when the backup was made."""
    kind = "output" if entry.run_id else "archive"
    report.count(kind, found.size_bytes)
    if found.problem or entry.problem:
        named = entry.run_id or Path(entry.path).name
        report.faults.append(Fault(kind, named, found.problem or entry.problem, is_old=not found.problem))


def require_same(folder: Path, part: StoredPart) -> None:
    """Raises DamagedBackup where a file of the backup itself is gone or was changed."""
    try:
        found = files.described(folder / part.name)
    except OSError as error:
        raise DamagedBackup(f"{folder / part.name} cannot be read: {error.strerror}") from error
    if found != part:
        raise DamagedBackup(
            f"{folder / part.name} is damaged: it has {found.size_bytes} bytes with SHA-256 {found.sha256}, and had "
            f"{part.size_bytes} with {part.sha256} when the backup was made"
        )


def _output(place: Stored, wanted: Wanted) -> tuple[Wanted, Examined]:
    try:
        with place.output(wanted.run_id) as there:
            return wanted, missing(wanted) if there is None else examine(wanted, there.blocks())
    except OSError as error:
        return wanted, Examined(0, "", f"{error.filename or 'its file'} cannot be read: {error.strerror}")


def _archives(place: Stored, read: reading.Read, report: Report, progress: Progress) -> None:
    wanted = sorted(read(store.archives))
    progress.begin("archives", len(wanted))
    absent: list[Fault] = []
    for sha256, found in files.each(partial(_archive, place), wanted):
        fault = Fault("archive", sha256, found.problem)
        if found.problem and not found.sha256:
            absent.append(fault)
        elif found.problem:
            report.faults.append(fault)
        report.count("archive", found.size_bytes)
        progress.add(found.size_bytes)
    # What a plan had left goes when its run is over, maybe just now.
    still_wanted = read(store.archives) if absent else set()
    report.faults += [fault for fault in absent if fault.id in still_wanted]
    progress.end()


def _archive(place: Stored, sha256: str) -> tuple[str, Examined]:
    try:
        with place.archive(sha256) as there:
            found = examine(Wanted("", (), is_all=False), there.blocks())
    except OSError as error:
        return sha256, Examined(0, "", f"it cannot be read: {error.strerror or error}")
    problem = "" if found.sha256 == sha256 else f"its SHA-256 is {found.sha256} now"
    return sha256, Examined(found.size_bytes, found.sha256, problem)


def _database(folder: Path, made: Manifest, report: Report, progress: Progress) -> None:
    try:
        require_same(folder, made.database)
    except DamagedBackup as error:
        report.faults.append(Fault("database", made.database.name, str(error)))
        return
    if made.database.name == dumps.SQLITE:
        with reading.copy(folder / made.database.name) as read:
            audit_check.check(read, audit_check.head_of(made.audit_head), report, progress)


def _key(folder: Path, made: Manifest, report: Report) -> None:
    if not made.has_master_key:
        return
    try:
        fits = MasterKey.from_hex((folder / KEY_FILE).read_text()).fingerprint == made.key_fingerprint
    except (OSError, MasterKeyError, UnicodeDecodeError):
        fits = False
    if not fits:
        report.faults.append(Fault("backup", KEY_FILE, "it is not the key that the secrets are sealed under"))
