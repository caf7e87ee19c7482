"""Damage, and how it is answered."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from control_plane.keeping import files, manifest, verify
from control_plane.keeping.errors import (
    DamagedBackup,
)
from control_plane.keeping.ground import Ground
from tests.integration.keeping.installations import restored, silent, tree


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
