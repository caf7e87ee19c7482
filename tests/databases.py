"""Databases for tests: made from a migrated template, so that each test has one of its own in milliseconds."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from control_plane.storage.database import Database
from control_plane.storage.migrate import migrate
from scripts.postgres import Cluster

BACKENDS: Final = ("sqlite", "postgresql")
_TEMPLATE: Final = "interlock_template"


class Databases:
    """Of one session. PostgreSQL is started when the first test asks for it."""

    def __init__(self, folder: Path, cluster: Callable[[], Cluster]) -> None:
        self._folder = folder
        self._find_cluster = cluster
        self._numbers = itertools.count(1)

    @contextmanager
    def migrated(self, backend: str) -> Iterator[str]:
        """The URL of a database in the newest shape, there until the end of the block."""
        with self.empty(backend, template=True) as url:
            yield url

    @contextmanager
    def empty(self, backend: str, *, template: bool = False) -> Iterator[str]:
        """The URL of a database without a table in it."""
        name = f"test_{next(self._numbers)}"
        if backend == "sqlite":
            file = self._folder / f"{name}.db"
            if template:
                shutil.copy(self._sqlite_template, file)
            yield f"sqlite:///{file}"
            return
        self._execute(
            f"CREATE DATABASE {name} TEMPLATE {self._postgres_template if template else 'template0'}"
        )
        try:
            yield self._cluster.url(name)
        finally:
            self._execute(f"DROP DATABASE {name} WITH (FORCE)")

    def close(self) -> None:
        if "_admin" in self.__dict__:
            self._admin.dispose()

    @cached_property
    def _cluster(self) -> Cluster:
        return self._find_cluster()

    @cached_property
    def _admin(self) -> sa.Engine:
        return sa.create_engine(self._cluster.url(), isolation_level="AUTOCOMMIT")

    @cached_property
    def _postgres_template(self) -> str:
        self._execute(f"CREATE DATABASE {_TEMPLATE} TEMPLATE template0")
        _migrate(self._cluster.url(_TEMPLATE))
        return _TEMPLATE

    @cached_property
    def _sqlite_template(self) -> Path:
        file = self._folder / "template.db"
        _migrate(f"sqlite:///{file}")
        return file

    def _execute(self, statement: str) -> None:
        with self._admin.connect() as connection:
            connection.exec_driver_sql(statement)


def _migrate(url: str) -> None:
    database = Database(url)
    migrate(database.engine)
    database.close()
