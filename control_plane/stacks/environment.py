"""Variables and mounted files of a stack. Secrets are sealed to their place and shown as checksums only."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from control_plane import clock, errors
from control_plane.audit import events
from control_plane.identity.principal import Principal
from control_plane.keys import Sealer
from control_plane.stacks import environment_fields, store
from control_plane.stacks.access import Access
from control_plane.storage.database import Database
from interlock.v1 import stack_pb2


class Environments:
    """Reading and changing what a stack's runs find in their environment."""

    def __init__(self, database: Database, access: Access, sealer: Sealer) -> None:
        self._database = database
        self._access = access
        self._sealer = sealer

    async def get(self, principal: Principal, stack_id: str) -> stack_pb2.Environment:
        """Secrets without their values."""
        await self._access.readable(principal, stack_id)
        return await self._database.read(lambda connection: _shown(connection, stack_id))

    async def set(
        self,
        principal: Principal,
        stack_id: str,
        variables: Sequence[stack_pb2.EnvironmentVariable],
        files: Sequence[stack_pb2.MountedFile],
    ) -> stack_pb2.Environment:
        """Adds or replaces all of them, or none."""
        environment_fields.check(variables, files)
        await self._access.writable(principal, stack_id)
        variable_rows = [self._variable_row(stack_id, variable) for variable in variables]
        file_rows = [self._file_row(stack_id, file) for file in files]

        def change(connection: sa.Connection) -> None:
            store.put_variables(connection, stack_id, variable_rows)
            store.put_files(connection, stack_id, file_rows)
            _check_whole(connection, stack_id)

        names = [variable.name for variable in variables]
        paths = [file.path for file in files]
        return await self._change(
            principal, stack_id, "stack.environment_set", change, names=names, paths=paths
        )

    async def unset(
        self, principal: Principal, stack_id: str, names: Sequence[str], paths: Sequence[str]
    ) -> stack_pb2.Environment:
        """Removes all of them, or none: raises NotFound for the first that is not there."""
        if not names and not paths:
            raise errors.InvalidField("names", "is empty, and so is `paths`; give at least one")
        await self._access.writable(principal, stack_id)

        def change(connection: sa.Connection) -> None:
            present_names = {row.name for row in store.variables(connection, stack_id)}
            present_paths = {row.path for row in store.files(connection, stack_id)}
            for name in sorted(set(names) - present_names):
                raise errors.NotFound("variable", name)
            for path in sorted(set(paths) - present_paths):
                raise errors.NotFound("file", path)
            store.delete_variables(connection, stack_id, names)
            store.delete_files(connection, stack_id, paths)

        return await self._change(
            principal, stack_id, "stack.environment_unset", change, names=names, paths=paths
        )

    async def _change(
        self,
        principal: Principal,
        stack_id: str,
        action: str,
        change: Callable[[sa.Connection], None],
        *,
        names: Sequence[str],
        paths: Sequence[str],
    ) -> stack_pb2.Environment:
        """Makes the change, counts the stack's version up and records names, never values, in one transaction."""

        def unit(connection: sa.Connection) -> stack_pb2.Environment:
            if not store.change(connection, stack_id, updated_at=clock.now_us()):
                raise errors.NotFound("stack", stack_id)
            change(connection)
            events.record(
                connection,
                principal,
                action,
                "stack",
                stack_id,
                stack_id=stack_id,
                details={"variables": sorted(names), "files": sorted(paths)},
            )
            return _shown(connection, stack_id)

        return await self._database.write(unit)

    def _variable_row(self, stack_id: str, variable: stack_pb2.EnvironmentVariable) -> dict[str, object]:
        value = variable.value.encode()
        context = _variable_context(stack_id, variable.name)
        stored = self._sealer.seal(value, context=context) if variable.secret else value
        return {
            "name": variable.name,
            "secret": variable.secret,
            "value": stored,
            "checksum": self._sealer.checksum(value),
        }

    def _file_row(self, stack_id: str, file: stack_pb2.MountedFile) -> dict[str, object]:
        content = file.content
        context = _file_context(stack_id, file.path)
        stored = self._sealer.seal(content, context=context) if file.secret else content
        return {
            "path": file.path,
            "secret": file.secret,
            "content": stored,
            "size_bytes": len(content),
            "checksum": self._sealer.checksum(content),
        }


@dataclass(slots=True)
class Stored:
    """Rows of one stack: its secrets are still sealed."""

    variables: list[sa.Row[Any]] = field(default_factory=list)
    files: list[sa.Row[Any]] = field(default_factory=list)


def stored(connection: sa.Connection, stack_ids: Collection[str]) -> Mapping[str, Stored]:
    """What each of these stacks has in its environment, read in two statements."""
    found = {stack_id: Stored() for stack_id in stack_ids}
    for row in store.variables(connection, *found):
        found[row.stack_id].variables.append(row)
    for row in store.files(connection, *found):
        found[row.stack_id].files.append(row)
    return found


def job_environment(
    sealer: Sealer, stored: Stored
) -> tuple[list[stack_pb2.EnvironmentVariable], list[stack_pb2.MountedFile]]:
    """Variables and files with their values in the clear, for the runner and nobody else."""
    variables = [_clear_variable(sealer, row) for row in stored.variables]
    files = [_clear_file(sealer, row) for row in stored.files]
    return variables, files


def secret_values(connection: sa.Connection, sealer: Sealer, stack_id: str) -> Iterator[bytes]:
    """In the clear: of secret variables, and of secret files."""
    for row in store.variables(connection, stack_id):
        if row.secret:
            yield sealer.open(row.value, context=_variable_context(stack_id, row.name))
    for row in store.files(connection, stack_id):
        if row.secret:
            yield sealer.open(row.content, context=_file_context(stack_id, row.path))


def _clear_variable(sealer: Sealer, row: sa.Row[Any]) -> stack_pb2.EnvironmentVariable:
    value = row.value
    if row.secret:
        value = sealer.open(value, context=_variable_context(row.stack_id, row.name))
    return stack_pb2.EnvironmentVariable(name=row.name, value=value.decode(), secret=row.secret)


def _clear_file(sealer: Sealer, row: sa.Row[Any]) -> stack_pb2.MountedFile:
    content = row.content
    if row.secret:
        content = sealer.open(content, context=_file_context(row.stack_id, row.path))
    return stack_pb2.MountedFile(path=row.path, content=content, secret=row.secret, size_bytes=row.size_bytes)


def _shown(connection: sa.Connection, stack_id: str) -> stack_pb2.Environment:
    return stack_pb2.Environment(
        stack_id=stack_id,
        variables=[_shown_variable(row) for row in store.variables(connection, stack_id)],
        files=[_shown_file(row) for row in store.files(connection, stack_id)],
    )


def _shown_variable(row: sa.Row[Any]) -> stack_pb2.EnvironmentVariable:
    value = "" if row.secret else row.value.decode()
    return stack_pb2.EnvironmentVariable(name=row.name, value=value, secret=row.secret, checksum=row.checksum)


def _shown_file(row: sa.Row[Any]) -> stack_pb2.MountedFile:
    return stack_pb2.MountedFile(
        path=row.path,
        content=b"" if row.secret else row.content,
        secret=row.secret,
        checksum=row.checksum,
        size_bytes=row.size_bytes,
    )


def _check_whole(connection: sa.Connection, stack_id: str) -> None:
    variables = store.variables(connection, stack_id)
    files = store.files(connection, stack_id)
    total = sum(len(row.value) for row in variables) + sum(row.size_bytes for row in files)
    environment_fields.check_whole(stack_id, [row.path for row in files], len(variables), total)


def _variable_context(stack_id: str, name: str) -> str:
    return f"environment/{stack_id}/variables/{name}"


def _file_context(stack_id: str, path: str) -> str:
    return f"environment/{stack_id}/files/{path}"
