"""A stack as it is at one moment: what rules judge, runs are made from and policies see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from control_plane import errors
from control_plane.ids import PoolId, RunId, StackId
from control_plane.stacks import slot_holder, store
from interlock.v1 import caller_pb2, stack_pb2

SourceKind = Literal["git", "archive"]


@dataclass(frozen=True, slots=True)
class Lock:
    """A person's or key's exclusive hold."""

    owner: caller_pb2.Caller
    note: str
    locked_at: int


@dataclass(frozen=True, slots=True)
class PoolSnapshot:
    id: PoolId
    name: str
    labels: tuple[str, ...]
    public: bool


@dataclass(frozen=True, slots=True)
class StackSnapshot:
    id: StackId
    name: str
    description: str
    labels: tuple[str, ...]
    source_kind: SourceKind
    git_url: str
    git_ref: str
    # Sealed: see `pinning`.
    git_credential_sealed: bytes | None
    project_root: str
    archive_sha256: str
    archive_size_bytes: int
    archive_uploaded_at: int | None
    tool: stack_pb2.Tool.ValueType
    custom_init: tuple[str, ...]
    custom_plan: tuple[str, ...]
    custom_apply: tuple[str, ...]
    image: str
    pull_policy: stack_pb2.PullPolicy.ValueType
    pool: PoolSnapshot
    hooks: stack_pb2.Hooks
    administrative: bool
    autodeploy: bool
    lock: Lock | None
    version: int
    created_at: int
    updated_at: int
    deleted_at: int | None
    active_run_id: RunId | None
    # The name of a run's state, as in `PERFORMING`; None while the slot is free.
    active_run_state: str | None
    fence: int
    queued_runs: int
    # None while the slot is free.
    slot_holder: stack_pb2.SlotHolder | None = None

    @property
    def etag(self) -> str:
        return str(self.version)


def load(connection: sa.Connection, stack_id: str) -> StackSnapshot:
    """Raises NotFound where there is no such stack, or not any more."""
    stack = load_any(connection, stack_id)
    if stack.deleted_at is not None:
        raise errors.NotFound("stack", stack_id)
    return stack


def load_any(connection: sa.Connection, stack_id: str) -> StackSnapshot:
    """As `load`, deleted stacks too: the record of their runs is still read."""
    row = store.find(connection, stack_id)
    if row is None:
        raise errors.NotFound("stack", stack_id)
    return _from_row(row)


def load_many(connection: sa.Connection, stack_ids: Sequence[str]) -> list[StackSnapshot]:
    """In the order of `stack_ids`. Raises NotFound for the first that is not there."""
    found = load_present(connection, stack_ids)
    for stack_id in stack_ids:
        if stack_id not in found:
            raise errors.NotFound("stack", stack_id)
    return [found[stack_id] for stack_id in stack_ids]


def load_present(connection: sa.Connection, stack_ids: Sequence[str]) -> dict[str, StackSnapshot]:
    """Those that there are, by id."""
    found = map(_from_row, store.find_many(connection, stack_ids))
    return {stack.id: stack for stack in found if stack.deleted_at is None}


def load_page(connection: sa.Connection, after_id: str, at_most: int) -> list[StackSnapshot]:
    """Stacks that exist, by id, those after `after_id`."""
    return [_from_row(row) for row in store.page(connection, after_id, at_most)]


def version_of(connection: sa.Connection, stack_id: str) -> int | None:
    """The version now, and until this transaction ends; None where the stack is gone."""
    return store.version_of(connection, stack_id)


def _from_row(row: sa.Row[Any]) -> StackSnapshot:
    lock = None
    if row.lock_owner_id is not None:
        lock = Lock(caller_pb2.Caller.FromString(row.lock_owner), row.lock_note, row.locked_at)
    return StackSnapshot(
        id=row.id,
        name=row.name,
        description=row.description,
        labels=tuple(row.labels),
        source_kind=row.source_kind,
        git_url=row.git_url,
        git_ref=row.git_ref,
        git_credential_sealed=row.git_credential_sealed,
        project_root=row.project_root,
        archive_sha256=row.archive_sha256,
        archive_size_bytes=row.archive_size_bytes,
        archive_uploaded_at=row.archive_uploaded_at,
        tool=row.tool,
        custom_init=tuple(row.custom_init),
        custom_plan=tuple(row.custom_plan),
        custom_apply=tuple(row.custom_apply),
        image=row.image,
        pull_policy=row.pull_policy,
        pool=PoolSnapshot(row.pool_id, row.pool_name, tuple(row.pool_labels), row.pool_public),
        hooks=stack_pb2.Hooks.FromString(row.hooks),
        administrative=row.administrative,
        autodeploy=row.autodeploy,
        lock=lock,
        version=row.version,
        created_at=row.created_at,
        updated_at=row.updated_at,
        deleted_at=row.deleted_at,
        active_run_id=row.holder_run_id,
        active_run_state=row.active_run_state,
        fence=row.fence,
        queued_runs=row.pending,
        slot_holder=slot_holder.of_stack(row),
    )
