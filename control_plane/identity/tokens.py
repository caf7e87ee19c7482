"""Access tokens: JWTs that name an API key and an end, signed with Ed25519. What the key may do is looked up.

Teams and rights are not in it: it stays below 4 KiB however many teams a key has, and is never outdated.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from control_plane import clock
from control_plane.identity.errors import BadToken, ExpiredToken
from control_plane.keys import MasterKey

LIFETIME: Final = timedelta(minutes=15)
MAX_TOKEN_BYTES: Final = 4096

_ALGORITHM: Final = "EdDSA"
# Issuer and audience: a token of another product that happens to be signed with the same key is none of ours.
_NAME: Final = "interlock"
_SECOND_US: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Claims:
    key_id: str
    expires_at: int
    # Of the session that login policies gave; "" where they had no say.
    session_id: str = ""
    # The address that asked for the token.
    creator_ip: str = ""


class Tokens:
    """Signs and verifies. Pure: knows nothing of keys that were revoked."""

    def __init__(
        self, master: MasterKey, *, lifetime: timedelta = LIFETIME, now_us: Callable[[], int] = clock.now_us
    ) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(master.derive("token-signing"))
        self._public_key = self._key.public_key()
        self._lifetime_s = int(lifetime.total_seconds())
        self._now_us = now_us

    @property
    def lifetime_us(self) -> int:
        """How long a token lasts at most."""
        return self._lifetime_s * _SECOND_US

    def issue(
        self, key_id: str, *, not_after: int | None, session_id: str = "", creator_ip: str = ""
    ) -> tuple[str, Claims]:
        """A token for this key, and what it says. It never outlives the key, whose end is `not_after`."""
        now_s = self._now_us() // _SECOND_US
        end_s = now_s + self._lifetime_s
        if not_after is not None:
            end_s = min(end_s, not_after // _SECOND_US)
        token = jwt.encode(
            {
                "iss": _NAME,
                "aud": _NAME,
                "sub": key_id,
                "iat": now_s,
                "exp": end_s,
                "jti": secrets.token_hex(8),
                "sid": session_id,
                "ip": creator_ip,
            },
            self._key,
            algorithm=_ALGORITHM,
        )
        return token, Claims(key_id, end_s * _SECOND_US, session_id, creator_ip)

    def verify(self, token: str) -> Claims:
        """What the token says.

        Raises:
            BadToken: its form, signature or audience is wrong.
            ExpiredToken: it was good once.
        """
        if len(token) > MAX_TOKEN_BYTES:
            raise BadToken(f"it is longer than {MAX_TOKEN_BYTES} bytes")
        try:
            claims = jwt.decode(
                token,
                self._public_key,
                algorithms=[_ALGORITHM],
                audience=_NAME,
                issuer=_NAME,
                # The end is checked below, against the same clock that set it.
                options={"require": ["sub", "exp"], "verify_exp": False, "verify_iat": False},
            )
        except jwt.InvalidTokenError as error:
            raise BadToken(str(error)) from error
        expires_at = int(claims["exp"]) * _SECOND_US
        if expires_at <= self._now_us():
            raise ExpiredToken
        session_id, creator_ip = str(claims.get("sid", "")), str(claims.get("ip", ""))
        return Claims(str(claims["sub"]), expires_at, session_id, creator_ip)
