"""A backup holds all of one moment, or it is not there; restored, it is the same installation."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from control_plane.audit.sealer import LogSealer
from control_plane.keeping import audit_check, dumps, files, manifest, restore, verify
from control_plane.keeping.errors import (
    DamagedBackup,
    DatabaseUnfit,
    KeyUnfit,
    NewerBackup,
    NotABackup,
    Refused,
    TargetInUse,
)
from control_plane.keeping.ground import Ground
from control_plane.storage.database import Database
from scripts import postgres
from tests.databases import Databases
from tests.integration.keeping import installations
from tests.integration.keeping.conftest import Past
from tests.integration.keeping.installations import Installation, made_backup, restored, silent, tree


@pytest.fixture
async def live(past: Past, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installation:
    if not past.db.is_sqlite:
        # The tools that belong to the server of the tests.
        monkeypatch.setenv("PATH", f"{postgres.ensure()}{os.pathsep}{os.environ['PATH']}")
    return await installations.furnished(past, tmp_path)


@pytest.fixture
def kind(live: Installation) -> str:
    return live.ground.database_url.get_backend_name()


def test_a_restored_installation_has_the_same_records_outputs_and_archives(
    live: Installation, kind: str, databases: Databases, tmp_path: Path
) -> None:
    before = installations.records(live.ground.database_url)
    folder, report = made_backup(live, tmp_path / "backup")
    assert (report.intact, report.outputs, report.archives) == (True, 5, 2)

    with installations.empty_ground(databases, kind, tmp_path / "new") as ground:
        restored(folder, ground)

        after = installations.records(ground.database_url)
        assert after.pop("runner_connections") == before.pop("runner_connections")
        assert after == before
        for part in ("output", "sources"):
            assert tree(tmp_path / "new" / part) == tree(tmp_path / "live" / part)
        checked = verify.installation(ground, None, silent())
        assert (checked.intact, checked.outputs, checked.archives) == (True, 5, 2)


async def test_the_restored_log_goes_on_from_the_head_of_the_backup_and_says_what_happened(
    live: Installation, kind: str, databases: Databases, tmp_path: Path
) -> None:
    folder, report = made_backup(live, tmp_path / "backup")
    with installations.empty_ground(databases, kind, tmp_path / "new") as ground:
        restored(folder, ground)
        db = Database(ground.database_url.render_as_string(hide_password=False))
        await LogSealer(db).seal_all()
        db.close()

        head = audit_check.head_of(report.audit_head)
        checked = verify.installation(ground, head, silent())
        assert (checked.intact, checked.audit_events) == (True, report.audit_events + 1)


async def test_what_is_written_after_the_moment_of_the_backup_is_not_in_it_and_does_no_harm(
    live: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = files.copy

    def copy_while_runs_go_on(file: int, target: Path, size_bytes: int) -> None:
        with live.path("performing").open("ab") as output:
            output.write(b"one line more\n")
        original(file, target, size_bytes)

    monkeypatch.setattr(files, "copy", copy_while_runs_go_on)
    folder, report = made_backup(live, tmp_path / "backup")
    await live.past.run(b"of a later run")
    assert report.intact
    assert verify.backup(folder, silent()).intact


def test_what_a_plan_had_left_and_was_removed_meanwhile_is_not_missed(
    live: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, moments = dumps.taken, []

    def taken_just_before_the_run_ends(ground: Ground, folder: Path, progress: object) -> object:
        moments.append(folder)
        if len(moments) == 2:
            end_of_run(live)
        return original(ground, folder, progress)  # type: ignore[arg-type]

    def end_of_run(live: Installation) -> None:
        engine = sa.create_engine(live.ground.database_url)
        with engine.begin() as connection:
            connection.exec_driver_sql(
                "UPDATE runs SET state = 'DISCARDED', finished_at = 1 WHERE state = 'APPLYING'"
            )
        engine.dispose()

    for archive in live.ground.archives.iterdir():
        if archive.read_bytes() == installations.KEPT_PLAN:
            archive.unlink()
    live.past.write(live.runs["performing"], installations.LINES[:500])
    monkeypatch.setattr(dumps, "taken", taken_just_before_the_run_ends)
    folder, report = made_backup(live, tmp_path / "backup")

    assert (report.intact, report.archives, len(moments)) == (True, 1, 2)
    assert verify.backup(folder, silent()).intact


def test_the_master_key_is_in_it_only_when_asked_for(
    live: Installation, kind: str, databases: Databases, tmp_path: Path
) -> None:
    without, report = made_backup(live, tmp_path / "without")
    assert not (without / "master.key").exists()
    assert installations.KEY.encode() not in b"".join(tree(without).values())
    assert "master key is not in it" in report.notes[0]

    with_it, _ = made_backup(live, tmp_path / "with", with_master_key=True)
    with installations.empty_ground(databases, kind, tmp_path / "new", master_key="") as ground:
        restored(with_it, ground)
        assert ground.key_file.read_text().strip() == installations.KEY
        assert ground.key_file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("place", ["environment", "file"])
def test_another_master_key_than_the_backups_is_refused(
    live: Installation, kind: str, databases: Databases, tmp_path: Path, place: str
) -> None:
    folder, _ = made_backup(live, tmp_path / "backup")
    new = tmp_path / "new"
    new.mkdir()
    if place == "file":
        (new / "master.key").write_text("77" * 32)
        (new / "master.key").chmod(0o600)
    given = "77" * 32 if place == "environment" else ""
    with installations.empty_ground(databases, kind, new, master_key=given) as ground:
        refused(KeyUnfit, "not the one that the secrets in the backup are sealed under", folder, ground)


def test_there_is_no_backup_with_a_key_that_is_not_the_databases(live: Installation, tmp_path: Path) -> None:
    live.ground.key_file.write_text("77" * 32)
    with pytest.raises(KeyUnfit, match="not the one that the database's secrets are sealed under"):
        made_backup(live, tmp_path / "backup", with_master_key=True)
    assert not list(tmp_path.glob("*backup*"))


NOT_BACKUPS: dict[str, tuple[Callable[[Path], object], type[Refused], str]] = {
    "nothing there": (lambda folder: folder.rename(folder.with_name("away")), NotABackup, "is no folder"),
    "a folder of other things": (
        lambda folder: (folder / "backup.json").unlink(),
        NotABackup,
        "there is no backup.json in it",
    ),
    "no JSON": (lambda folder: (folder / "backup.json").write_text("{"), NotABackup, "is not JSON"),
    "other JSON": (
        lambda folder: (folder / "backup.json").write_text("[]"),
        NotABackup,
        "does not say that it is",
    ),
    "a newer form": (
        lambda folder: change_manifest(folder, version=2),
        NewerBackup,
        "made by a newer Interlock .* use that release",
    ),
    "a newer database": (
        lambda folder: change_manifest(folder, revision="9999"),
        NewerBackup,
        r"newer Interlock \(revision 9999",
    ),
    "an edited manifest": (
        lambda folder: (folder / "backup.json").write_text(
            (folder / "backup.json").read_text().replace('"made_by"', '"made_By"')
        ),
        DamagedBackup,
        "its digest is another",
    ),
    "a path out of the folder": (
        lambda folder: change_files(folder, "output/", "../output/"),
        DamagedBackup,
        "line 3 of .* names",
    ),
}


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("what", NOT_BACKUPS)
def test_what_is_no_backup_of_this_release_is_refused_and_nothing_changes(
    live: Installation, kind: str, databases: Databases, tmp_path: Path, what: str
) -> None:
    folder, _ = made_backup(live, tmp_path / "backup")
    spoil, error, message = NOT_BACKUPS[what]
    spoil(folder)
    with installations.empty_ground(databases, kind, tmp_path / "new") as ground:
        refused(error, message, folder, ground)


def test_a_backup_of_the_other_kind_of_database_is_refused(
    live: Installation, kind: str, databases: Databases, tmp_path: Path
) -> None:
    folder, _ = made_backup(live, tmp_path / "backup")
    other = {"sqlite": "postgresql", "postgresql": "sqlite"}[kind]
    with installations.empty_ground(databases, other, tmp_path / "new") as ground:
        refused(DatabaseUnfit, f"of a database on {kind}", folder, ground)


def test_any_damaged_file_is_found_and_named_and_restores_nothing(
    live: Installation, kind: str, databases: Databases, tmp_path: Path
) -> None:
    folder, _ = made_backup(live, tmp_path / "backup", with_master_key=True)
    with installations.empty_ground(databases, kind, tmp_path / "new", master_key="") as ground:
        for path in sorted(folder.rglob("*")):
            if not path.is_file() or path.name == "backup.json":
                continue
            content = path.read_bytes()
            middle = len(content) // 2
            path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
            # An output by its run, an archive by its digest, the rest by the file's name.
            named = path.name.partition(".")[0] if path.name.startswith("run_") else path.name
            assert named in damage(folder)
            refused(Refused, named, folder, ground)
            path.write_bytes(content)
        assert verify.backup(folder, silent()).intact


def test_a_file_that_is_gone_from_a_backup_is_named(live: Installation, tmp_path: Path) -> None:
    folder, _ = made_backup(live, tmp_path / "backup")
    (folder / live.path("plain").relative_to(live.ground.shared_dir)).unlink()
    assert f"output {live.runs['plain']}" in damage(folder)
    assert "is gone" in damage(folder)


@pytest.mark.parametrize("what", ["a file", "a table or database", "a restore that did not end"])
def test_what_is_there_is_never_written_over(
    live: Installation, kind: str, databases: Databases, tmp_path: Path, what: str
) -> None:
    folder, _ = made_backup(live, tmp_path / "backup")
    new = tmp_path / "new"
    new.mkdir()
    with installations.empty_ground(databases, kind, new) as ground:
        message = "is not empty"
        if what == "a file":
            (new / "notes.txt").write_text("mine")
        elif what == "a restore that did not end":
            (new / "restore.part").mkdir()
            message = "did not end: empty that folder"
        else:
            engine = sa.create_engine(ground.database_url)
            with engine.begin() as connection:
                connection.exec_driver_sql("CREATE TABLE mine (a INTEGER)")
            engine.dispose()
        refused(TargetInUse, message, folder, ground)


def test_a_backup_is_not_written_over_another_one(live: Installation, tmp_path: Path) -> None:
    folder, _ = made_backup(live, tmp_path / "backup")
    before = tree(folder)
    with pytest.raises(TargetInUse, match="each backup has its own"):
        made_backup(live, folder)
    with pytest.raises(Refused, match="make it first"):
        made_backup(live, tmp_path / "not" / "there")
    assert tree(folder) == before


def test_a_backup_of_what_is_damaged_is_made_and_says_so_and_can_be_restored(
    live: Installation, kind: str, databases: Databases, tmp_path: Path
) -> None:
    path = live.path("plain")
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    folder, report = made_backup(live, tmp_path / "backup")
    assert [(fault.kind, fault.id) for fault in report.faults] == [("output", live.runs["plain"])]
    assert [(fault.id, fault.is_old) for fault in verify.backup(folder, silent()).faults] == [
        (live.runs["plain"], True)
    ]
    with installations.empty_ground(databases, kind, tmp_path / "new") as ground:
        assert [fault.id for fault in restored(folder, ground).faults] == [live.runs["plain"]]


def test_a_full_disk_leaves_neither_half_a_backup_nor_half_an_installation(
    live: Installation, kind: str, databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = made_backup(live, tmp_path / "backup")
    original, seen = files.copy, []

    def full_at_the_fourth(file: int, target: Path, size_bytes: int) -> None:
        seen.append(target)
        if len(seen) >= 4:
            raise OSError(28, "No space left on device", str(target))
        original(file, target, size_bytes)

    monkeypatch.setattr(files, "copy", full_at_the_fourth)
    with pytest.raises(OSError, match="No space left"):
        made_backup(live, tmp_path / "another")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backup", "live"]
    seen.clear()
    with installations.empty_ground(databases, kind, tmp_path / "new") as ground:
        refused(OSError, "No space left", folder, ground)
        monkeypatch.setattr(files, "copy", original)
        # The files are in place by then, the database is not.
        monkeypatch.setattr(restore, "_put_database", lambda *_: full_at_the_fourth(0, tmp_path, 0))
        refused(OSError, "No space left", folder, ground)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_killed_backup_is_none_and_a_killed_restore_is_no_installation(
    live: Installation, tmp_path: Path
) -> None:
    killed(live.ground, "control_plane.keeping.manifest.write", "backup", str(tmp_path / "early"))
    assert not (tmp_path / "early").exists()

    ended = command(
        live.ground,
        "-c",
        "import os, sys, control_plane.keeping.manifest as it\n"
        "it.write = lambda *_: os.kill(os.getpid(), 15)\n"
        "from control_plane.keeping.__main__ import main\n"
        "main(sys.argv[1:])\n",
        "backup",
        str(tmp_path / "late"),
    )
    assert ended.returncode == 128 + 15
    assert not list(tmp_path.glob("*late*"))

    folder, _ = made_backup(live, tmp_path / "backup")
    new = Ground(
        tmp_path / "new",
        tmp_path / "new",
        sa.make_url(f"sqlite:///{tmp_path}/new/interlock.db"),
        installations.KEY,
    )
    for step in ("manifest.entries", "restore._tell"):
        killed(new, f"control_plane.keeping.{step}", "restore", str(folder))
        assert not new.sqlite_file.exists()
        with pytest.raises(TargetInUse, match="did not end"):
            restored(folder, new)
        if step == "restore._tell":
            server = command(new, "control_plane")
            assert (server.returncode, "did not end" in server.stderr) == (1, True)
        shutil.rmtree(new.data_dir)
    restored(folder, new)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_missing_tools_of_postgresql_are_named(
    live: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Refused, match=r"pg_dump is not on PATH: .*postgresql-client on Debian"):
        made_backup(live, tmp_path / "backup")
    assert not (tmp_path / "backup").exists()


async def test_a_database_of_a_newer_release_is_neither_backed_up_nor_verified(
    live: Installation, tmp_path: Path
) -> None:
    await live.past.db.write(lambda tx: tx.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DatabaseUnfit, match=r"newer Interlock \(revision 9999\)"):
        made_backup(live, tmp_path / "backup")
    with pytest.raises(DatabaseUnfit, match=r"newer Interlock \(revision 9999\)"):
        live.verify()
    assert not (tmp_path / "backup").exists()


def test_what_is_no_database_of_interlock_is_not_backed_up(
    live: Installation, kind: str, databases: Databases, tmp_path: Path
) -> None:
    nothing = (
        r"there is no database at .*/interlock\.db" if kind == "sqlite" else "not a database of Interlock"
    )
    with (
        installations.empty_ground(databases, kind, tmp_path / "new") as ground,
        pytest.raises(DatabaseUnfit, match=nothing),
    ):
        made_backup(Installation(live.past, ground, {}), tmp_path / "backup")
    assert not (tmp_path / "backup").exists()


def refused(error: type[Exception], message: str, folder: Path, ground: Ground) -> None:
    """It is, with this message, and the place it was to go to is as it was."""
    before = state(ground)
    with pytest.raises(error, match=message):
        restored(folder, ground)
    assert state(ground) == before


def state(ground: Ground) -> tuple[dict[str, bytes], list[str]]:
    """All files but the empty one that keeps a server out, and the tables."""
    there = tree(ground.data_dir) if ground.data_dir.exists() else {}
    there.pop("server.lock", None)
    if ground.is_sqlite:
        return there, []
    engine = sa.create_engine(ground.database_url)
    tables = sa.inspect(engine).get_table_names()
    engine.dispose()
    return there, tables


def damage(folder: Path) -> str:
    """What verify says of it."""
    try:
        return "\n".join(verify.backup(folder, silent()).lines())
    except DamagedBackup as error:
        return str(error)


def change_manifest(folder: Path, **changes: object) -> None:
    """As its maker would have written it."""
    content = json.loads((folder / "backup.json").read_text()) | changes
    del content["sha256"]
    content["sha256"] = manifest._digest(content)
    (folder / "backup.json").write_text(json.dumps(content))


def change_files(folder: Path, before: str, after: str) -> None:
    listed = folder / "files.jsonl"
    listed.write_text(listed.read_text().replace(before, after))
    part = files.described(listed)
    change_manifest(folder, files={"name": part.name, "size_bytes": part.size_bytes, "sha256": part.sha256})


def killed(ground: Ground, step: str, *arguments: str) -> None:
    """The command, in a process that is gone when it comes to this step."""
    module, _, name = step.rpartition(".")
    script = (
        f"import os, sys, {module} as it\n"
        f"it.{name} = lambda *_, **__: os._exit(9)\n"
        "from control_plane.keeping.__main__ import main\n"
        "main(sys.argv[1:])\n"
    )
    assert command(ground, "-c", script, *arguments).returncode == 9


def command(ground: Ground, *arguments: str) -> subprocess.CompletedProcess[str]:
    words = arguments if arguments[0] == "-c" else ("-m", *arguments)
    environment = {
        **os.environ,
        "INTERLOCK_DATA_DIR": str(ground.data_dir),
        "INTERLOCK_DATABASE_URL": ground.database_url.render_as_string(hide_password=False),
        "INTERLOCK_MASTER_KEY": ground.master_key,
    }
    return subprocess.run(
        [sys.executable, *words], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
