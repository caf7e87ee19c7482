"""Which runner may connect: its pool token is in force, and it belongs to that token's pool."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import sqlalchemy as sa
import structlog

from control_plane import clock, errors
from control_plane.audit import events
from control_plane.identity import principal
from control_plane.identity.credentials import Credential
from control_plane.identity.errors import BadCredentials
from control_plane.identity.failure_limit import FailureLimit
from control_plane.identity.principal import SYSTEM, Principal
from control_plane.pools import store
from control_plane.pools.pool import KnownRunner, PoolToken
from control_plane.storage.database import Database
from interlock.v1 import runner_service_pb2 as rpc

log = structlog.get_logger(__name__)

_TOKEN_ID: Final = re.compile(r"ptk_[a-z0-9]{26}")
_MINUTE_US: Final = 60_000_000


@dataclass(frozen=True, slots=True)
class PoolTokenInfo:
    """What a good pool token stands for."""

    pool_id: str
    token_id: str


class AnotherMachine(errors.AlreadyExists):
    """Invariant 3: on another machine a new boot id, or a container that is not there, proves nothing."""

    def __init__(self, runner_id: str) -> None:
        super().__init__(
            "runner",
            runner_id,
            f"runner {runner_id!r} is, or performs a run, on another machine or under another boot: was its folder "
            "copied? Then give the copy another folder. If the machine was just started again, its old connection is "
            "given up within a minute; if it is gone for good, abandon what it performed",
        )


def has_moved(before: str, now: str) -> bool:
    """Whether a runner's machine is surely another one than before; "" is a machine that is not known."""
    return bool(before and now) and before != now


class Admission:
    def __init__(
        self, db: Database, *, failures: FailureLimit, now_us: Callable[[], int] = clock.now_us
    ) -> None:
        self._db = db
        self._failures = failures
        self._now_us = now_us

    async def authenticate(self, pool_token: str) -> PoolTokenInfo:
        """The pool of a token "ptk_….SECRET".

        Raises:
            BadCredentials: it is unknown, wrong or revoked; audited as pool_token.rejected.
            TooManyFailures: this peer was wrong too often; not audited any more.
        """
        caller = principal.current.get(principal.anonymous(""))
        credential = Credential.parse(pool_token)
        found = await self._db.read(lambda connection: store.find_token_with_hash(connection, credential.id))
        cause = _cause_of_refusal(found, credential)
        if found is None or cause:
            self._failures.count(caller.remote_ip)
            await self._db.write(lambda connection: _audit_refusal(connection, caller, credential.id, cause))
            raise BadCredentials("pool token")
        token, now = found[0], self._now_us()
        if token.last_used_at is None or token.last_used_at // _MINUTE_US < now // _MINUTE_US:
            await self._note_use(token, now)
        return PoolTokenInfo(token.pool_id, token.id)

    async def record(
        self, hello: rpc.Hello, token: PoolTokenInfo, *, may_move: Callable[[sa.Connection], bool]
    ) -> None:
        """Remembers a runner that said hello. To be followed at once by its registration as connected: a token
        that is revoked before this is refused here, and one that is revoked after it ends the connection.

        `may_move`: whether the runner may be on another machine than the last time.

        Raises:
            BadCredentials: the token was revoked meanwhile.
            NotAllowed: the runner belongs to another pool.
            AnotherMachine: it may not be where it is.
        """
        caller = replace(SYSTEM, remote_ip=principal.current.get(principal.anonymous("")).remote_ip)
        now = self._now_us()
        await self._db.write(lambda connection: _record(connection, caller, hello, token, now, may_move))

    async def _note_use(self, token: PoolToken, now_us: int) -> None:
        try:
            await self._db.write(lambda connection: store.note_use_of_token(connection, token.id, now_us))
        except errors.DiskFull as error:
            # A runner that performs must be able to come back and report, all the more now.
            log.warning("pool_token.use_not_noted", pool_token_id=token.id, cause=error.message)


def _record(
    connection: sa.Connection,
    caller: Principal,
    hello: rpc.Hello,
    token: PoolTokenInfo,
    now_us: int,
    may_move: Callable[[sa.Connection], bool],
) -> None:
    used = store.find_token(connection, token.token_id)
    if used is None or used.revoked_at is not None:
        raise BadCredentials("pool token")
    runner = KnownRunner(
        id=hello.runner_id,
        pool_id=token.pool_id,
        name=hello.name,
        version=hello.version,
        capacity=hello.capacity,
        boot_id=hello.boot_id,
        machine_id=hello.machine_id,
        connected_at=now_us,
        last_seen_at=now_us,
    )
    known = store.find_runner(connection, runner.id)
    if known is None:
        store.insert_runner(connection, runner)
        events.record(connection, caller, "runner.registered", "runner", runner.id, details=_details(runner))
        return
    if known.pool_id != token.pool_id:
        raise errors.NotAllowed(
            f"runner {runner.id} belongs to pool {known.pool_id!r}, and this token to {token.pool_id!r}; "
            "use a token of its own pool, or start it with a new data folder"
        )
    if has_moved(known.machine_id, runner.machine_id) and not may_move(connection):
        raise AnotherMachine(runner.id)
    # One that does not know its machine now, having no engine yet, is still held to the last one.
    store.update_runner(connection, replace(runner, machine_id=runner.machine_id or known.machine_id))
    if _details(known) != _details(runner):
        events.record(connection, caller, "runner.changed", "runner", runner.id, details=_details(runner))


def _details(runner: KnownRunner) -> dict[str, object]:
    """What an admin may want to know later; a mere reconnection changes none of it."""
    return {
        "pool_id": runner.pool_id,
        "name": runner.name,
        "version": runner.version,
        "capacity": runner.capacity,
    }


def _cause_of_refusal(found: tuple[PoolToken, bytes] | None, credential: Credential) -> str:
    """For the audit log; empty where the credential is good."""
    if found is None:
        return "unknown token"
    token, secret_hash = found
    if not credential.matches(secret_hash):
        return "wrong secret"
    return "" if token.revoked_at is None else "revoked"


def _audit_refusal(connection: sa.Connection, caller: Principal, token_id: str, cause: str) -> None:
    # Somebody may have sent the secret alone: what is no id is not written down.
    named = token_id if _TOKEN_ID.fullmatch(token_id) else ""
    events.record(connection, caller, "pool_token.rejected", "pool_token", named, details={"cause": cause})
