"""Variables and files: set and unset together, secrets sealed."""

from __future__ import annotations

import json

import pytest
import sqlalchemy as sa

from control_plane import errors
from control_plane.keys import MasterKeyError
from control_plane.stacks import environment
from control_plane.stacks.environment_fields import MAX_VARIABLES
from control_plane.storage import tables
from interlock.v1.stack_pb2 import EnvironmentVariable, MountedFile
from tests.integration.stacks.house import READER, STRANGER, WRITER, House

PLAIN = EnvironmentVariable(name="REGION", value="eu-north-1")
SECRET = EnvironmentVariable(name="TOKEN", value="s3cr3t-token", secret=True)
FILE = MountedFile(path="source/prod.tfvars", content=b"a = 1\n")
SECRET_FILE = MountedFile(path="id_ed25519", content=b"s3cr3t-file", secret=True)


async def test_secrets_come_back_as_checksums_only(house: House) -> None:
    await house.create()

    shown = await house.environments.set(WRITER, "network", [SECRET, PLAIN], [SECRET_FILE, FILE])

    assert [(one.name, one.value, one.secret) for one in shown.variables] == [
        ("REGION", "eu-north-1", False),
        ("TOKEN", "", True),
    ]
    assert [(one.path, one.content, one.size_bytes) for one in shown.files] == [
        ("id_ed25519", b"", 11),
        ("source/prod.tfvars", b"a = 1\n", 6),
    ]
    assert all(one.checksum for one in shown.variables)
    assert all(one.checksum for one in shown.files)
    assert await house.environments.get(READER, "network") == shown


async def test_equal_values_have_equal_checksums(house: House) -> None:
    await house.create()
    same = [EnvironmentVariable(name=name, value="s3cr3t", secret=True) for name in "AB"]
    shown = await house.environments.set(WRITER, "network", [*same, SECRET], [])
    a, b, token = (one.checksum for one in shown.variables)
    assert a == b != token


async def test_no_secret_is_in_the_database_or_the_audit_log_in_the_clear(house: House) -> None:
    await house.create()
    await house.environments.set(WRITER, "network", [SECRET], [SECRET_FILE])
    for table in (tables.environment_variables, tables.mounted_files, tables.audit_events):
        rows = await house.db.read(lambda tx, table=table: tx.execute(sa.select(table)).all())  # type: ignore[misc]
        assert "s3cr3t" not in repr(rows)
    [event] = await house.audited("stack.environment_set")
    assert json.loads(event.details) == {"files": ["id_ed25519"], "variables": ["TOKEN"]}


async def test_a_run_gets_every_value_in_the_clear(house: House) -> None:
    await house.create()
    await house.environments.set(WRITER, "network", [SECRET, PLAIN], [SECRET_FILE, FILE])

    stored = await house.db.read(lambda tx: environment.stored(tx, ["network"]))
    variables, files = environment.job_environment(house.sealer, stored["network"])

    assert {one.name: (one.value, one.secret) for one in variables} == {
        "REGION": ("eu-north-1", False),
        "TOKEN": ("s3cr3t-token", True),
    }
    assert {one.path: one.content for one in files} == {
        "id_ed25519": b"s3cr3t-file",
        "source/prod.tfvars": b"a = 1\n",
    }


async def test_a_sealed_value_that_is_moved_to_another_name_does_not_open(house: House) -> None:
    await house.create()
    await house.environments.set(WRITER, "network", [SECRET], [])
    move = sa.update(tables.environment_variables).values(name="OTHER")
    await house.db.write(lambda tx: tx.execute(move))
    stored = await house.db.read(lambda tx: environment.stored(tx, ["network"]))
    with pytest.raises(MasterKeyError):
        environment.job_environment(house.sealer, stored["network"])


async def test_setting_replaces_what_has_the_name_and_leaves_the_rest(house: House) -> None:
    before = await house.create()
    await house.environments.set(WRITER, "network", [SECRET, PLAIN], [FILE])

    shown = await house.environments.set(
        WRITER, "network", [EnvironmentVariable(name="TOKEN", value="now plain")], []
    )

    assert [(one.name, one.value, one.secret) for one in shown.variables] == [
        ("REGION", "eu-north-1", False),
        ("TOKEN", "now plain", False),
    ]
    assert len(shown.files) == 1
    assert (await house.load()).version == before.version + 2


async def test_one_bad_variable_sets_none(house: House) -> None:
    before = await house.create()
    bad = EnvironmentVariable(name="PIN", value="123", secret=True)
    with pytest.raises(errors.InvalidField, match="cannot be masked"):
        await house.environments.set(WRITER, "network", [PLAIN, bad], [FILE])
    assert (await house.environments.get(READER, "network")).ByteSize() == len("network") + 2
    assert await house.load() == before


async def test_a_file_in_place_of_a_stored_folder_sets_nothing(house: House) -> None:
    await house.create()
    await house.environments.set(WRITER, "network", [], [MountedFile(path="etc/x")])
    with pytest.raises(errors.InvalidField, match="'etc' is a file"):
        await house.environments.set(WRITER, "network", [PLAIN], [MountedFile(path="etc")])
    shown = await house.environments.get(READER, "network")
    assert (len(shown.variables), [file.path for file in shown.files]) == (0, ["etc/x"])


async def test_more_variables_than_allowed_are_refused_together(house: House) -> None:
    await house.create()
    many = [EnvironmentVariable(name=f"V{number}") for number in range(MAX_VARIABLES)]
    await house.environments.set(WRITER, "network", many, [])
    with pytest.raises(errors.LimitExceeded):
        await house.environments.set(WRITER, "network", [PLAIN], [])
    assert await house.count(tables.environment_variables) == MAX_VARIABLES


async def test_unsetting_removes_all_or_none(house: House) -> None:
    await house.create()
    await house.environments.set(WRITER, "network", [SECRET, PLAIN], [FILE])

    with pytest.raises(errors.NotFound, match="'NOTHING'"):
        await house.environments.unset(WRITER, "network", ["TOKEN", "NOTHING"], [])
    with pytest.raises(errors.NotFound, match="'nothing'"):
        await house.environments.unset(WRITER, "network", ["TOKEN"], ["nothing"])
    assert len((await house.environments.get(READER, "network")).variables) == 2

    shown = await house.environments.unset(WRITER, "network", ["TOKEN"], ["source/prod.tfvars"])
    assert ([one.name for one in shown.variables], list(shown.files)) == (["REGION"], [])
    [event] = await house.audited("stack.environment_unset")
    assert json.loads(event.details) == {"files": ["source/prod.tfvars"], "variables": ["TOKEN"]}


async def test_unsetting_nothing_is_refused(house: House) -> None:
    await house.create()
    with pytest.raises(errors.InvalidField, match="names"):
        await house.environments.unset(WRITER, "network", [], [])


async def test_reading_needs_read_access_and_changing_needs_write_access(house: House) -> None:
    await house.create()
    with pytest.raises(errors.NotFound):
        await house.environments.get(STRANGER, "network")
    with pytest.raises(errors.NotAllowed):
        await house.environments.set(READER, "network", [PLAIN], [])
    with pytest.raises(errors.NotAllowed):
        await house.environments.unset(READER, "network", ["REGION"], [])
