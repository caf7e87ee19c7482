"""Where a plan stands with the approval policies of its stack, inside the transaction that makes or confirms it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from control_plane.identity.principal import Principal
from control_plane.policies import attached
from control_plane.policies.combine import Approval, PolicyRef
from control_plane.policies.tasks import stored_session
from control_plane.runs import review_store
from control_plane.runs.errors import WrongState
from control_plane.runs.review_store import Judged
from control_plane.stacks import snapshot
from interlock.v1 import caller_pb2
from policies.workbench.kinds import Kind


def begin(tx: sa.Connection, run: sa.Row[Any]) -> bool:
    """Its policies are to be asked: whether there are any."""
    if review_store.find(tx, run.id) is None:
        review_store.begin(tx, run.id, _session(run))
    return bool(_policies(tx, run.stack_id))


def require(tx: sa.Connection, run: sa.Row[Any]) -> None:
    """Raises WrongState unless those that apply now approve the run as it is now."""
    policies = _policies(tx, run.stack_id)
    if not policies:
        return
    row = review_store.find(tx, run.id)
    version = snapshot.version_of(tx, run.stack_id)
    now = Judged(
        policies_version=0,
        stack_version=-1 if version is None else version,
        reviews=review_store.count(tx, run.id),
        judged_by=[(policy.id, policy.revision) for policy in policies],
    )
    if row is None or not now.is_still(row) or row.outcome != Approval.APPROVED.value:
        why = row.reason if row is not None and row.reason else "its approval policies are being asked"
        raise WrongState(run.id, f"{run.id} cannot be confirmed yet: {why}")


def _session(run: sa.Row[Any]) -> dict[str, object]:
    """Its creator as policies see them; the address is not known any more."""
    creator = caller_pb2.Caller.FromString(run.creator)
    principal = Principal(
        id=creator.id,
        login=creator.login,
        name=creator.name,
        teams=tuple(creator.teams),
        admin=creator.admin,
        machine=creator.machine,
    )
    return stored_session(principal)


def _policies(tx: sa.Connection, stack_id: str) -> Sequence[PolicyRef]:
    stack = snapshot.load_any(tx, stack_id)
    return attached.load(tx).refs(stack.id, stack.labels, Kind.APPROVAL)
