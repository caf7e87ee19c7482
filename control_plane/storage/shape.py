"""At each start: has the database the shape that this release needs? Where not, a process of its own brings it forward:
alembic would take 11 MiB and 0.4 s of every start for what is needed once a release."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import sqlalchemy as sa
import structlog

log = structlog.get_logger(__name__)

_VERSIONS: Final = Path(__file__).parent / "migrations" / "versions"
_NAMES: Final = re.compile(r'^(revision|down_revision) = "(\w+)"$', re.MULTILINE)
_REVISION: Final = sa.text("SELECT version_num FROM alembic_version")


class CannotMigrateError(Exception):
    """The database cannot be brought forward; the message says why and what to do."""


def ensure(engine: sa.Engine) -> None:
    """Blocks. Returns when the database has the newest shape.

    Raises:
        CannotMigrateError: nothing was changed.
    """
    before = _revision(engine)
    if before == newest():
        return
    url = engine.url.render_as_string(hide_password=False)
    done = subprocess.run(
        [sys.executable, "-m", "control_plane.storage.migrate"],
        env={**os.environ, "INTERLOCK_DATABASE_URL": url},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise CannotMigrateError(done.stderr.strip())
    log.info("database.migrated", from_revision=before, to_revision=newest())


def newest() -> str:
    """The revision that this release needs: the one that no other follows, whatever their numbers are."""
    followed = _revisions()
    (head,) = followed.keys() - set(followed.values())
    return head


def revisions() -> frozenset[str]:
    """Every one that this release knows."""
    return frozenset(_revisions())


def _revisions() -> dict[str, str]:
    """Each with the one that it follows."""
    read = (dict(_NAMES.findall(file.read_text())) for file in _VERSIONS.glob("[0-9]*.py"))
    return {names["revision"]: names.get("down_revision", "") for names in read}


def _revision(engine: sa.Engine) -> str | None:
    if not sa.inspect(engine).has_table("alembic_version"):
        return None
    with engine.connect() as connection:
        return connection.execute(_REVISION).scalar_one_or_none()
