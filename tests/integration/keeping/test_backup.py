"""A backup holds all of one moment, or it is not there; restored, it is the same installation."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import sqlalchemy as sa

from control_plane.audit.sealer import LogSealer
from control_plane.keeping import audit_check, dumps, files, restore, verify
from control_plane.keeping.errors import (
    TargetInUse,
)
from control_plane.keeping.ground import Ground
from control_plane.storage.database import Database
from tests.databases import Databases
from tests.integration.keeping import installations
from tests.integration.keeping.installations import Installation, made_backup, restored, silent, tree
from tests.integration.keeping.spoiling import command, killed, refused


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


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
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
