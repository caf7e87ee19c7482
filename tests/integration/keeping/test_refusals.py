"""What is refused, of backups and of places to restore them to: nothing is changed, and the error says what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from control_plane.keeping import verify
from control_plane.keeping.errors import (
    DamagedBackup,
    DatabaseUnfit,
    KeyUnfit,
    NewerBackup,
    NotABackup,
    Refused,
    TargetInUse,
)
from tests.databases import Databases
from tests.integration.keeping import installations
from tests.integration.keeping.installations import Installation, made_backup, silent, tree
from tests.integration.keeping.spoiling import change_files, change_manifest, damage, refused


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
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


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
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
    "a part out of the folder": (
        lambda folder: change_manifest(
            folder, database={"name": "../database.sqlite", "size_bytes": 1, "sha256": "00"}
        ),
        DamagedBackup,
        "names 'files.jsonl' and '../database.sqlite' as its parts",
    ),
    "a manifest without a part": (
        lambda folder: change_manifest(folder, files={}),
        DamagedBackup,
        "is not as Interlock writes it",
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


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
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


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_backup_is_not_written_over_another_one(live: Installation, tmp_path: Path) -> None:
    folder, _ = made_backup(live, tmp_path / "backup")
    before = tree(folder)
    with pytest.raises(TargetInUse, match="each backup has its own"):
        made_backup(live, folder)
    with pytest.raises(Refused, match="make it first"):
        made_backup(live, tmp_path / "not" / "there")
    assert tree(folder) == before


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
