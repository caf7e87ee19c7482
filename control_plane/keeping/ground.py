"""Where an installation keeps what it keeps: the same environment as the server's says it."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from control_plane.config import Config
from control_plane.keeping.errors import DatabaseUnfit, Refused
from control_plane.object_address import ObjectAddress
from control_plane.storage import database

KEY_FILE: Final = "master.key"
# There while a restore has not ended; the server does not start then.
UNFINISHED: Final = "restore.part"


@dataclass(frozen=True, slots=True)
class Ground:
    """Folders, database and key of one installation."""

    data_dir: Path
    shared_dir: Path
    database_url: sa.URL
    # Given by the environment; empty: the file in data_dir.
    master_key: str
    # Where output and archives are; None: in files below shared_dir.
    object_store: ObjectAddress | None = None

    @classmethod
    def of(cls, settings: Config) -> Ground:
        """
        Raises:
            Refused: the database is none that Interlock speaks, or somebody else runs the server.
        """
        try:
            url = database.parse(settings.database_url)
        except database.UnknownDatabase as error:
            raise DatabaseUnfit(f"INTERLOCK_DATABASE_URL: {error}") from error
        if url.get_backend_name() == "sqlite" and (not url.database or url.database == ":memory:"):
            raise DatabaseUnfit("INTERLOCK_DATABASE_URL names a database in memory: there is nothing to keep")
        ground = cls(settings.data_dir, settings.shared_dir, url, settings.master_key, settings.object_store)
        ground._require_owner()
        return ground

    @property
    def is_sqlite(self) -> bool:
        return self.database_url.get_backend_name() == "sqlite"

    @property
    def sqlite_file(self) -> Path:
        return Path(self.database_url.database or "").resolve()

    @property
    def key_file(self) -> Path:
        return self.data_dir / KEY_FILE

    @property
    def output(self) -> Path:
        return self.shared_dir / "output"

    @property
    def archives(self) -> Path:
        return self.shared_dir / "sources"

    def _require_owner(self) -> None:
        """What another user makes here the server cannot open: SQLite's files first of all."""
        for folder in (self.data_dir, self.shared_dir):
            if folder.exists() and (owner := folder.stat().st_uid) != os.geteuid():
                raise Refused(
                    f"{folder} belongs to {_name(owner)}, and you are {_name(os.geteuid())}: run this as the user that "
                    f"runs the server, such as with `sudo -u {_name(owner)}`"
                )


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
