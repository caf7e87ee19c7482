"""Turns the bearer token of a call into a principal: at once where the token was seen lately.

Each token's key is read again every `RECHECK_S`: a key that was revoked here stops at once, one that was
revoked by another control plane within that time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final

from control_plane import clock
from control_plane.identity import store
from control_plane.identity.errors import BadToken, NoToken
from control_plane.identity.principal import Principal
from control_plane.identity.tokens import Claims, Tokens
from control_plane.storage.database import Database

RECHECK_S: Final = 2.0
MAX_CACHED: Final = 10_000
_SCHEME: Final = "bearer "


@dataclass(slots=True)
class _Entry:
    principal: Principal
    claims: Claims
    recheck_at: int


class Authenticator:
    """For the interceptor, on the event loop."""

    def __init__(
        self,
        db: Database,
        tokens: Tokens,
        *,
        recheck_s: float = RECHECK_S,
        max_cached: int = MAX_CACHED,
        now_us: Callable[[], int] = clock.now_us,
    ) -> None:
        self._db = db
        self._tokens = tokens
        self._recheck_us = int(recheck_s * 1_000_000)
        self._max_cached = max_cached
        self._now_us = now_us
        # By the token's hash, so that a dump of this process's memory holds no token that still works.
        self._entries: dict[bytes, _Entry] = {}
        # Keys revoked by this process: an answer that the database gave before must not bring one back.
        self._revoked: set[str] = set()

    def cached(self, token: str, remote_ip: str = "") -> Principal | None:
        """The principal, where it is known without waiting; a microsecond or two."""
        return self._lookup(_digest(token), remote_ip)

    async def authenticate(
        self, metadata: Iterable[tuple[str, str | bytes]] | None, remote_ip: str = ""
    ) -> Principal:
        """The principal of a call with this metadata. Streams call it again now and then: tokens end.

        Raises:
            NoToken, BadToken, ExpiredToken: the caller is not known.
            DatabaseUnavailable: it cannot be found out now.
        """
        token = bearer_token(metadata)
        digest = _digest(token)
        principal = self._lookup(digest, remote_ip)
        if principal is None:
            principal = await self._check(token, digest, remote_ip)
        return principal

    def forget(self, key_id: str) -> None:
        """Ends every token of a key that was revoked just now."""
        self._revoked.add(key_id)
        for digest in [digest for digest, entry in self._entries.items() if entry.principal.id == key_id]:
            del self._entries[digest]

    def _lookup(self, digest: bytes, remote_ip: str) -> Principal | None:
        entry = self._entries.get(digest)
        if entry is None:
            return None
        now = self._now_us()
        if now >= entry.recheck_at or now >= entry.claims.expires_at:
            return None
        if entry.principal.remote_ip != remote_ip:
            entry.principal = replace(entry.principal, remote_ip=remote_ip)
        return entry.principal

    async def _check(self, token: str, digest: bytes, remote_ip: str) -> Principal:
        entry = self._entries.pop(digest, None)
        if entry is not None and self._now_us() < entry.claims.expires_at:
            claims = entry.claims
        else:
            claims = self._tokens.verify(token)
        key, session = await self._db.read(
            lambda connection: (
                store.find(connection, claims.key_id),
                store.find_session(connection, claims.session_id) if claims.session_id else None,
            )
        )
        now = self._now_us()
        if key is None or key.id in self._revoked or not key.is_in_force(now):
            raise BadToken("its API key was revoked or has expired")
        if claims.session_id and session is None:
            raise BadToken("its session is over")
        while len(self._entries) >= self._max_cached:
            del self._entries[next(iter(self._entries))]
        principal = replace(key.principal(remote_ip), creator_ip=claims.creator_ip)
        if session is not None:
            principal = replace(principal, teams=session.teams, admin=session.admin)
        self._entries[digest] = _Entry(principal, claims, now + self._recheck_us)
        return principal


def bearer_token(metadata: Iterable[tuple[str, str | bytes]] | None) -> str:
    """The token in `authorization: Bearer TOKEN`. Raises NoToken or BadToken."""
    values = [value for key, value in metadata or () if key == "authorization"]
    if not values:
        raise NoToken
    if len(values) > 1:
        raise BadToken("there is more than one authorization header")
    value = values[0] if isinstance(values[0], str) else values[0].decode("ascii", "replace")
    if value[: len(_SCHEME)].lower() != _SCHEME:
        raise BadToken("the authorization header must be `Bearer TOKEN`")
    token = value[len(_SCHEME) :].strip()
    if not token:
        raise NoToken
    return token


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
