"""Quarantine: a policy that used more time or memory than it may three times in a row is not asked any more.

Who needs it is refused at once, and nobody else waits for it. It ends with a new text, or when an admin releases it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import sqlalchemy as sa
import structlog

from control_plane import clock, errors
from control_plane.audit import events
from control_plane.identity.principal import SYSTEM, Principal
from control_plane.policies import records, store
from control_plane.policies.combine import PolicyRef
from control_plane.policies.messages import to_policy
from control_plane.storage.database import Database
from interlock.v1 import policy_pb2

TIMES_IN_A_ROW: Final = 3

log = structlog.get_logger(__name__)


class Quarantine:
    """The ledger of the policies' conduct: one for all replicas, since it is in the database.

    `on_change` is called after each change of who is in quarantine.
    """

    def __init__(self, db: Database, *, on_change: Callable[[], None]) -> None:
        self._db = db
        self._on_change = on_change

    async def overran(self, policy: PolicyRef, cause: str) -> bool:
        """Counts it. True where that put the policy in quarantine."""
        try:
            times = await self._db.write(partial(_overran, policy, cause))
        except errors.DomainError as error:
            # Its decision is refused all the same.
            log.error("policy.overrun_not_noted", policy_id=policy.id, cause=error.message)
            return False
        if times < TIMES_IN_A_ROW:
            return False
        log.error("policy.quarantined", policy_id=policy.id, revision=policy.revision, cause=cause)
        self._on_change()
        return True

    async def passed(self, policy_ids: Sequence[str]) -> None:
        """These overran last time, and answered now: they begin anew."""
        try:
            await self._db.write(partial(_passed, policy_ids))
        except errors.DomainError as error:
            log.warning("policy.pass_not_noted", policy_ids=policy_ids, cause=error.message)

    async def release(self, principal: Principal, policy_id: str) -> policy_pb2.Policy:
        """Harmless where it is in none. Raises NotFound."""
        principal.require_admin("release policies")
        policy, is_changed = await self._db.write(partial(_release, principal, policy_id))
        if is_changed:
            log.info("policy.released", policy_id=policy_id, by=principal.login)
            self._on_change()
        return policy


def reason(policy_id: str, since_us: int, cause: str) -> str:
    """Why a policy in quarantine decides nothing, and what to do, as a part of a refusal."""
    since = datetime.fromtimestamp(since_us // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return (
        f"quarantined since {since} by Interlock: {cause}, {TIMES_IN_A_ROW} times in a row; "
        f"an admin may update it or release it (interlock policy release {policy_id})"
    )


def _overran(policy: PolicyRef, cause: str, tx: sa.Connection) -> int:
    """How often in a row by now; 0 where it is another text, or in quarantine already."""
    row = store.find_to_change(tx, policy.id)
    if row is None or row.revision != policy.revision or row.quarantined_at is not None:
        return 0
    times = row.overruns + 1
    is_over = times >= TIMES_IN_A_ROW
    store.note_conduct(
        tx,
        policy.id,
        times,
        quarantined_at=clock.now_us() if is_over else None,
        cause=cause if is_over else "",
    )
    records.bump_policies_version(tx)
    details: dict[str, object] = {"cause": cause, "in_a_row": times, "revision": policy.revision}
    events.record(
        tx,
        SYSTEM,
        "policy.quarantined" if is_over else "policy.overran",
        "policy",
        policy.id,
        details=details,
    )
    return int(times)


def _passed(policy_ids: Sequence[str], tx: sa.Connection) -> None:
    for policy_id in policy_ids:
        row = store.find_to_change(tx, policy_id)
        if row is None or row.quarantined_at is not None or row.overruns == 0:
            continue
        store.note_conduct(tx, policy_id, 0)
        records.bump_policies_version(tx)
        events.record(
            tx, SYSTEM, "policy.answered_again", "policy", policy_id, details={"after": row.overruns}
        )


def _release(principal: Principal, policy_id: str, tx: sa.Connection) -> tuple[policy_pb2.Policy, bool]:
    row = store.find_to_change(tx, policy_id)
    if row is None:
        raise errors.NotFound("policy", policy_id)
    is_changed = row.quarantined_at is not None
    if is_changed:
        store.note_conduct(tx, policy_id, 0)
        records.bump_policies_version(tx)
        events.record(
            tx, principal, "policy.released", "policy", policy_id, details={"was": row.quarantine_cause}
        )
        row = _found(tx, policy_id)
    return to_policy(row, store.attached_stacks(tx, policy_id)), is_changed


def _found(tx: sa.Connection, policy_id: str) -> sa.Row[Any]:
    row = store.find(tx, policy_id)
    assert row is not None
    return row
