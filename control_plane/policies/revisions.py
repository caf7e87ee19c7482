"""What a policy was after each of its changes: who made it, when, and what became different."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from typing import Any

import sqlalchemy as sa

from control_plane import errors
from control_plane.clock import to_timestamp
from control_plane.identity.principal import Principal
from control_plane.storage.database import Database
from control_plane.storage.tables import policy_revisions
from interlock.v1 import caller_pb2, policy_pb2

_INSERT = sa.insert(policy_revisions)
_LAST = sa.select(sa.func.max(policy_revisions.c.revision)).where(
    policy_revisions.c.policy_id == sa.bindparam("policy_id")
)
_FIND = sa.select(policy_revisions).where(
    policy_revisions.c.policy_id == sa.bindparam("policy_id"),
    policy_revisions.c.revision == sa.bindparam("revision"),
)
_PAGE = (
    sa.select(policy_revisions)
    .where(
        policy_revisions.c.policy_id == sa.bindparam("policy_id"),
        policy_revisions.c.revision < sa.bindparam("before"),
    )
    .order_by(policy_revisions.c.revision.desc())
    .limit(sa.bindparam("at_most"))
)
_BEYOND = 2**62


@dataclass(frozen=True)
class Content:
    """All of a policy that may be changed."""

    name: str
    description: str
    labels: Sequence[str]
    body: str

    def changed_to(self, wanted: Content, paths: Collection[str]) -> Content:
        """As this, with the named fields as in `wanted`."""
        values = {
            field.name: getattr(wanted if field.name in paths else self, field.name) for field in fields(self)
        }
        return Content(**values)

    def lines(self) -> list[str]:
        """As text, for differences."""
        head = [f"name: {self.name}", f"description: {self.description}", f"labels: {', '.join(self.labels)}"]
        return [*head, "", *self.body.splitlines()]


class Revisions:
    """Reading them. Any caller may."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def get(self, policy_id: str, revision: int) -> policy_pb2.PolicyRevision:
        """Raises NotFound."""

        def unit(tx: sa.Connection) -> policy_pb2.PolicyRevision:
            row = find(tx, policy_id, revision)
            before = tx.execute(_PAGE, {"policy_id": policy_id, "before": revision, "at_most": 1}).first()
            return _message(row, before)

        return await self._db.read(unit)

    async def page(self, policy_id: str, before: int | None, at_most: int) -> list[policy_pb2.PolicyRevision]:
        """Newest first, those before revision `before`. Raises NotFound where there never was such a policy."""

        def unit(tx: sa.Connection) -> list[policy_pb2.PolicyRevision]:
            if last(tx, policy_id) == 0:
                raise errors.NotFound("policy", policy_id)
            wanted = {"policy_id": policy_id, "before": before or _BEYOND, "at_most": at_most + 1}
            rows = tx.execute(_PAGE, wanted).all()
            return [
                _message(row, before) for row, before in zip(rows[:at_most], [*rows[1:], None], strict=False)
            ]

        return await self._db.read(unit)


def content_of(row: sa.Row[Any] | policy_pb2.Policy) -> Content:
    """Of a policy's row, a revision's row, or a message."""
    return Content(row.name, row.description, list(row.labels), row.body)


def insert(
    tx: sa.Connection,
    policy_id: str,
    revision: int,
    content: Content,
    *,
    author: Principal,
    change: str,
    created_at: int,
) -> None:
    tx.execute(
        _INSERT,
        {
            "policy_id": policy_id,
            "revision": revision,
            **vars(content),
            "author": author.to_caller().SerializeToString(deterministic=True),
            "change": change,
            "created_at": created_at,
        },
    )


def last(tx: sa.Connection, policy_id: str) -> int:
    """The newest revision of a policy with this id, also of a deleted one; 0 where there never was one."""
    return tx.execute(_LAST, {"policy_id": policy_id}).scalar() or 0


def find(tx: sa.Connection, policy_id: str, revision: int) -> sa.Row[Any]:
    """Raises NotFound."""
    row = tx.execute(_FIND, {"policy_id": policy_id, "revision": revision}).one_or_none()
    if row is None:
        raise errors.NotFound("policy revision", f"{policy_id}@{revision}")
    return row


def difference(before: Content, after: Content, names: tuple[str, str]) -> str:
    """Unified; empty where nothing is different."""
    lines = difflib.unified_diff(before.lines(), after.lines(), *names, lineterm="")
    return "".join(f"{line}\n" for line in lines)


def _message(row: sa.Row[Any], before: sa.Row[Any] | None) -> policy_pb2.PolicyRevision:
    names = (f"{row.policy_id}@{before.revision}" if before else "", f"{row.policy_id}@{row.revision}")
    return policy_pb2.PolicyRevision(
        policy_id=row.policy_id,
        revision=row.revision,
        name=row.name,
        description=row.description,
        labels=row.labels,
        body=row.body,
        author=caller_pb2.Caller.FromString(row.author),
        create_time=to_timestamp(row.created_at),
        change=row.change,
        diff=difference(content_of(before), content_of(row), names) if before else "",
    )
