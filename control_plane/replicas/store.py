"""Control planes and the runners' connections in the database. The only place of the package with SQL.

Times are Unix microseconds. Heartbeats are compared by the clock of the database, whatever the replicas' clocks say.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from control_plane import clock
from control_plane.runs import states
from control_plane.storage.shared_clock import NOW_US, now_us
from control_plane.storage.tables import pool_tokens, replicas, runner_connections, runs
from interlock.v1.runner_service_pb2 import RunnerStatus

_ACTIVE: Final = [state.value for state in sorted(states.ACTIVE)]
_BEFORE_THE_GATE: Final = [state.value for state in sorted(states.ACTIVE) if state.may_stop]

_INSERT_REPLICA = sa.insert(replicas)
_BEAT = (
    sa.update(replicas)
    .where(replicas.c.id == sa.bindparam("replica"))
    .values(heartbeat_at=NOW_US)
    .returning(replicas.c.heartbeat_at)
)
_BURY = sa.delete(replicas).where(replicas.c.id == sa.bindparam("replica"))
_OTHERS = sa.select(replicas.c.id, replicas.c.address, replicas.c.heartbeat_at, replicas.c.storage_id).where(
    replicas.c.id != sa.bindparam("replica")
)
# SKIP LOCKED: of several that look at once, one buries the dead.
_DEAD = (
    sa.select(replicas.c.id)
    .where(replicas.c.id != sa.bindparam("replica"), replicas.c.heartbeat_at < sa.bindparam("before"))
    .with_for_update(skip_locked=True)
)

_FIND = sa.select(runner_connections).where(runner_connections.c.runner_id == sa.bindparam("runner"))
_HOLD = _FIND.with_for_update()
_INSERT_CONNECTION = sa.insert(runner_connections)
# One connection per runner: whoever claims it last has it, and the epoch tells which one that is.
_CLAIM = (
    sa.update(runner_connections)
    .where(runner_connections.c.runner_id == sa.bindparam("runner"))
    .values(
        replica_id=sa.bindparam("replica"),
        epoch=sa.bindparam("new_epoch"),
        pool_id=sa.bindparam("pool"),
        capacity=sa.bindparam("new_capacity"),
        boot_id=sa.bindparam("boot"),
        status=sa.bindparam("new_status"),
        lost_at=None,
    )
)
# A stream that ends lets go of its own epoch only.
_LET_GO = (
    sa.update(runner_connections)
    .where(
        runner_connections.c.runner_id == sa.bindparam("runner"),
        runner_connections.c.epoch == sa.bindparam("of_epoch"),
        runner_connections.c.replica_id == sa.bindparam("replica"),
    )
    .values(replica_id=None, lost_at=sa.bindparam("now"))
)
_NOTE_STATUS = (
    sa.update(runner_connections)
    .where(
        runner_connections.c.runner_id == sa.bindparam("runner"),
        runner_connections.c.epoch == sa.bindparam("of_epoch"),
    )
    .values(status=sa.bindparam("new_status"))
)
# Also those of a replica that was buried, took one more runner before it noticed, and died.
_ORPHAN = (
    sa.update(runner_connections)
    .where(
        runner_connections.c.replica_id.is_not(None),
        ~sa.exists().where(replicas.c.id == runner_connections.c.replica_id),
    )
    .values(replica_id=None, lost_at=sa.bindparam("now"))
    .returning(runner_connections.c.runner_id)
)
_OF_REPLICA = sa.select(runner_connections.c.runner_id, runner_connections.c.epoch).where(
    runner_connections.c.replica_id == sa.bindparam("replica")
)
_ELSEWHERE = (
    sa.select(runner_connections, sa.func.count(runs.c.id).label("active"))
    .select_from(
        runner_connections.outerjoin(
            runs, sa.and_(runs.c.runner_id == runner_connections.c.runner_id, runs.c.state.in_(_ACTIVE))
        )
    )
    .where(
        runner_connections.c.replica_id.is_not(None),
        runner_connections.c.replica_id != sa.bindparam("replica"),
    )
    .group_by(runner_connections.c.runner_id)
)
# Runs before their gate whose runner has been nowhere since then: their lease is over.
_OVERDUE = (
    sa.select(runner_connections.c.runner_id)
    .join(runs, runs.c.runner_id == runner_connections.c.runner_id)
    .where(
        runner_connections.c.replica_id.is_(None),
        runner_connections.c.lost_at < sa.bindparam("before"),
        runs.c.state.in_(_BEFORE_THE_GATE),
    )
    .distinct()
)
# Active runs of runners that are connected to nobody, and nobody has said so: their replica left in the middle.
_FORLORN = (
    sa.select(runner_connections.c.runner_id)
    .join(runs, runs.c.runner_id == runner_connections.c.runner_id)
    .where(
        runner_connections.c.replica_id.is_(None),
        runs.c.unreachable_since.is_(None),
        runs.c.state.in_(_ACTIVE),
    )
    .distinct()
)
_TO_STOP = (
    sa.select(runs.c.id)
    .join(runner_connections, runner_connections.c.runner_id == runs.c.runner_id)
    .where(
        runner_connections.c.replica_id == sa.bindparam("replica"),
        runs.c.stop_requested,
        runs.c.state.in_(_BEFORE_THE_GATE),
    )
)
_TOKENS_IN_FORCE = sa.select(pool_tokens.c.id).where(
    pool_tokens.c.id.in_(sa.bindparam("token_ids", expanding=True)), pool_tokens.c.revoked_at.is_(None)
)
_CHANGED_AT = sa.select(runs.c.id, runs.c.updated_at, runs.c.state, runs.c.unreachable_since).where(
    runs.c.id.in_(sa.bindparam("run_ids", expanding=True))
)


@dataclass(frozen=True, slots=True)
class Claim:
    """A runner's connection as it is now ours, and where it was before (None: nowhere)."""

    epoch: int
    earlier_replica_id: str | None


@dataclass(frozen=True, slots=True)
class RemoteRunner:
    """A runner that is connected to another control plane."""

    runner_id: str
    pool_id: str
    capacity: int
    status: RunnerStatus
    active: int

    @property
    def free_capacity(self) -> int:
        takes_work = not (self.status.draining or self.status.engine_away)
        return max(0, self.capacity - self.active) if takes_work else 0


def insert_replica(connection: sa.Connection, replica_id: str, address: str, storage_id: str) -> None:
    now = now_us(connection)
    row = {
        "id": replica_id, "address": address, "started_at": now, "heartbeat_at": now, "storage_id": storage_id,
    }  # fmt: skip
    connection.execute(_INSERT_REPLICA, row)


def beat(connection: sa.Connection, replica_id: str) -> int | None:
    """The time of this sign of life; None where the others have given this replica up."""
    at: int | None = connection.execute(_BEAT, {"replica": replica_id}).scalar_one_or_none()
    return at


def others(connection: sa.Connection, replica_id: str) -> Sequence[sa.Row[Any, Any, Any, Any]]:
    """(id, address, heartbeat_at, storage_id) of all other replicas, the dead ones included."""
    return connection.execute(_OTHERS, {"replica": replica_id}).all()


def dead(connection: sa.Connection, replica_id: str, before: int) -> list[str]:
    """Replicas that have given no sign since `before`, held until the transaction ends."""
    return list(connection.execute(_DEAD, {"replica": replica_id, "before": before}).scalars())


def bury(connection: sa.Connection, replica_ids: Collection[str]) -> list[str]:
    """Forgets replicas that are gone; returns the runners that are connected to nobody since."""
    for replica_id in replica_ids:
        connection.execute(_BURY, {"replica": replica_id})
    return list(connection.execute(_ORPHAN, {"now": clock.now_us()}).scalars())


def find_connection(connection: sa.Connection, runner_id: str, *, hold: bool) -> sa.Row[Any] | None:
    """Where a runner is connected. `hold`: it stays so until the transaction ends."""
    return connection.execute(_HOLD if hold else _FIND, {"runner": runner_id}).one_or_none()


def claim(
    connection: sa.Connection,
    replica_id: str,
    runner_id: str,
    *,
    pool_id: str,
    capacity: int,
    boot_id: str,
    status: bytes,
) -> Claim | None:
    """Makes this replica the one that the runner is connected to.

    None, and nothing changed, where it is connected to another replica from a machine with another boot id.
    """
    earlier = find_connection(connection, runner_id, hold=True)
    if earlier is None:
        row = {
            "runner_id": runner_id, "replica_id": replica_id, "epoch": 1, "pool_id": pool_id,
            "capacity": capacity, "boot_id": boot_id, "status": status,
        }  # fmt: skip
        connection.execute(_INSERT_CONNECTION, row)
        return Claim(1, None)
    if earlier.replica_id not in (None, replica_id) and earlier.boot_id != boot_id:
        return None
    connection.execute(
        _CLAIM,
        {
            "runner": runner_id, "replica": replica_id, "new_epoch": earlier.epoch + 1, "pool": pool_id,
            "new_capacity": capacity, "boot": boot_id, "new_status": status,
        },
    )  # fmt: skip
    return Claim(earlier.epoch + 1, earlier.replica_id)


def let_go(connection: sa.Connection, replica_id: str, runner_id: str, epoch: int, now: int) -> bool:
    """False where the runner has connected again since, here or elsewhere."""
    parameters = {"runner": runner_id, "of_epoch": epoch, "replica": replica_id, "now": now}
    return connection.execute(_LET_GO, parameters).rowcount == 1


def note_status(connection: sa.Connection, runner_id: str, epoch: int, status: bytes) -> None:
    connection.execute(_NOTE_STATUS, {"runner": runner_id, "of_epoch": epoch, "new_status": status})


def epochs_of_replica(connection: sa.Connection, replica_id: str) -> dict[str, int]:
    """By runner, of those that are connected to this replica."""
    return {row.runner_id: row.epoch for row in connection.execute(_OF_REPLICA, {"replica": replica_id})}


def elsewhere(connection: sa.Connection, replica_id: str, *, pool_id: str = "") -> list[RemoteRunner]:
    """Runners connected to other replicas; `pool_id` "" for all pools."""
    statement = _ELSEWHERE.where(runner_connections.c.pool_id == pool_id) if pool_id else _ELSEWHERE
    return [
        RemoteRunner(
            row.runner_id, row.pool_id, row.capacity, RunnerStatus.FromString(row.status), row.active
        )
        for row in connection.execute(statement, {"replica": replica_id})
    ]


def overdue(connection: sa.Connection, before: int) -> list[str]:
    """Runners that have been nowhere since `before`, with runs that have not passed their gate."""
    return list(connection.execute(_OVERDUE, {"before": before}).scalars())


def forlorn(connection: sa.Connection) -> list[str]:
    """Runners that are nowhere, with active runs that are not marked as unreachable."""
    return list(connection.execute(_FORLORN).scalars())


def to_stop(connection: sa.Connection, replica_id: str) -> list[str]:
    """Runs on this replica's runners that somebody asked to stop."""
    return list(connection.execute(_TO_STOP, {"replica": replica_id}).scalars())


def tokens_in_force(connection: sa.Connection, token_ids: Collection[str]) -> set[str]:
    if not token_ids:
        return set()
    return set(connection.execute(_TOKENS_IN_FORCE, {"token_ids": list(token_ids)}).scalars())


def marks_of_runs(connection: sa.Connection, run_ids: Sequence[str]) -> dict[str, tuple[object, ...]]:
    """By run, what differs once its record has changed."""
    if not run_ids:
        return {}
    rows = connection.execute(_CHANGED_AT, {"run_ids": list(run_ids)})
    return {row.id: (row.updated_at, row.state, row.unreachable_since) for row in rows}
