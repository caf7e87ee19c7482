"""Policies in the database: texts and attachments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from control_plane.storage.tables import policies, policy_attachments, stacks

_FIND = sa.select(policies).where(policies.c.id == sa.bindparam("policy_id"))
_FIND_MANY = sa.select(policies).where(policies.c.id.in_(sa.bindparam("policy_ids", expanding=True)))
# Who means to change a policy reads it like this first.
_FIND_TO_CHANGE = _FIND.with_for_update()
_ALL_MODULES = sa.select(policies.c.id, policies.c.revision, policies.c.module)
_INSERT = sa.insert(policies)
_CHANGE = (
    sa.update(policies)
    .where(policies.c.id == sa.bindparam("of_policy"))
    .values(version=policies.c.version + 1)
)
# Not a change of the policy itself: who means to change it need not read it again.
_NOTE_CONDUCT = sa.update(policies).where(policies.c.id == sa.bindparam("of_policy"))
_DELETE = sa.delete(policies).where(policies.c.id == sa.bindparam("policy_id"))
_PAGE = (
    sa.select(policies)
    .where(policies.c.id > sa.bindparam("after_id"))
    .order_by(policies.c.id)
    .limit(sa.bindparam("at_most"))
)
_STACKS_OF = (
    sa.select(policy_attachments.c.stack_id)
    .where(policy_attachments.c.policy_id == sa.bindparam("policy_id"))
    .order_by(policy_attachments.c.stack_id)
)
_ATTACH = sa.insert(policy_attachments)
_ATTACHMENT = sa.select(policy_attachments.c.shadow).where(
    policy_attachments.c.policy_id == sa.bindparam("policy_id"),
    policy_attachments.c.stack_id == sa.bindparam("stack_id"),
)
_ATTACH_OTHERWISE = (
    sa.update(policy_attachments)
    .where(
        policy_attachments.c.policy_id == sa.bindparam("of_policy"),
        policy_attachments.c.stack_id == sa.bindparam("of_stack"),
    )
    .values(shadow=sa.bindparam("in_shadow"), attached_at=sa.bindparam("since"))
)
_DETACH = sa.delete(policy_attachments).where(
    policy_attachments.c.policy_id == sa.bindparam("policy_id"),
    policy_attachments.c.stack_id == sa.bindparam("stack_id"),
)
_DETACH_ALL = sa.delete(policy_attachments).where(policy_attachments.c.policy_id == sa.bindparam("policy_id"))
_STACK_EXISTS = sa.select(stacks.c.id).where(
    stacks.c.id == sa.bindparam("stack_id"), stacks.c.deleted_at.is_(None)
)


def find(connection: sa.Connection, policy_id: str) -> sa.Row[Any] | None:
    return connection.execute(_FIND, {"policy_id": policy_id}).one_or_none()


def find_many(connection: sa.Connection, policy_ids: Sequence[str]) -> Sequence[sa.Row[Any]]:
    return connection.execute(_FIND_MANY, {"policy_ids": list(policy_ids)}).all()


def find_to_change(connection: sa.Connection, policy_id: str) -> sa.Row[Any] | None:
    """As `find`; nobody else can change it before this transaction ends."""
    return connection.execute(_FIND_TO_CHANGE, {"policy_id": policy_id}).one_or_none()


def modules(connection: sa.Connection) -> Sequence[sa.Row[Any, Any, Any]]:
    """(id, revision, module) of every policy: what OPA must hold."""
    return connection.execute(_ALL_MODULES).all()


def page(
    connection: sa.Connection,
    after_id: str,
    at_most: int,
    *,
    kind: str = "",
    among: Sequence[str] | None = None,
) -> Sequence[sa.Row[Any]]:
    """By id, those after `after_id`; of one kind and among these ids where that is asked for."""
    statement = _PAGE
    if kind:
        statement = statement.where(policies.c.kind == kind)
    if among is not None:
        statement = statement.where(policies.c.id.in_(among))
    return connection.execute(statement, {"after_id": after_id, "at_most": at_most}).all()


def insert(connection: sa.Connection, values: Mapping[str, object]) -> None:
    connection.execute(_INSERT, values)


def change(connection: sa.Connection, policy_id: str, **columns: object) -> None:
    """Sets columns and counts the change."""
    connection.execute(_CHANGE.values(**columns), {"of_policy": policy_id})


def note_conduct(
    connection: sa.Connection,
    policy_id: str,
    overruns: int,
    *,
    quarantined_at: int | None = None,
    cause: str = "",
) -> None:
    """How often in a row it overran, and whether it is in quarantine."""
    columns = {"overruns": overruns, "quarantined_at": quarantined_at, "quarantine_cause": cause}
    connection.execute(_NOTE_CONDUCT.values(columns), {"of_policy": policy_id})


def delete(connection: sa.Connection, policy_id: str) -> None:
    """Its attachments too; its revisions stay."""
    connection.execute(_DETACH_ALL, {"policy_id": policy_id})
    connection.execute(_DELETE, {"policy_id": policy_id})


def attached_stacks(connection: sa.Connection, policy_id: str) -> list[str]:
    """Ids of the stacks to which it is attached by hand, sorted."""
    return list(connection.execute(_STACKS_OF, {"policy_id": policy_id}).scalars())


def attach(
    connection: sa.Connection, policy_id: str, stack_id: str, *, shadow: bool, attached_at: int
) -> bool:
    """False where it was attached in just this way already."""
    attachment = {"policy_id": policy_id, "stack_id": stack_id}
    before = connection.execute(_ATTACHMENT, attachment).one_or_none()
    if before is not None and before.shadow is shadow:
        return False
    if before is None:
        connection.execute(_ATTACH, {**attachment, "shadow": shadow, "attached_at": attached_at})
    else:
        connection.execute(
            _ATTACH_OTHERWISE,
            {"of_policy": policy_id, "of_stack": stack_id, "in_shadow": shadow, "since": attached_at},
        )
    return True


def detach(connection: sa.Connection, policy_id: str, stack_id: str) -> bool:
    """False where it was not attached."""
    return connection.execute(_DETACH, {"policy_id": policy_id, "stack_id": stack_id}).rowcount == 1


def stack_exists(connection: sa.Connection, stack_id: str) -> bool:
    return connection.execute(_STACK_EXISTS, {"stack_id": stack_id}).one_or_none() is not None
