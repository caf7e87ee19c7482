"""Secrets of API keys and pool tokens: made, hashed, compared, and written as `ID.SECRET`."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field

_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class Credential:
    """An id with its secret. `text` is what a user is given, in INTERLOCK_API_KEY or a runner's settings."""

    id: str
    secret: str = field(repr=False)

    @classmethod
    def new(cls, identifier: str) -> Credential:
        return cls(identifier, secrets.token_urlsafe(_SECRET_BYTES))

    @classmethod
    def parse(cls, text: str) -> Credential:
        """Takes `ID.SECRET` apart; what has no dot is an id without a secret, which matches nothing."""
        identifier, _, secret = text.partition(".")
        return cls(identifier, secret)

    @property
    def text(self) -> str:
        return f"{self.id}.{self.secret}"

    def hashed(self) -> bytes:
        # One SHA-256, no salt, no scrypt: the secret is 256 random bits. Nobody finds it by trying, two are
        # never the same, and a slow hash would only make exchanges a lever for overload.
        return hashlib.sha256(self.secret.encode()).digest()

    def matches(self, stored_hash: bytes) -> bool:
        """Takes the same time wherever the first difference is."""
        return hmac.compare_digest(self.hashed(), stored_hash)
