"""Access tokens: what verifies and what does not."""

from __future__ import annotations

import base64
import json
from datetime import timedelta

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from control_plane.identity.errors import BadToken, ExpiredToken
from control_plane.identity.tokens import Claims, Tokens
from control_plane.keys import MasterKey

MASTER = MasterKey(b"k" * 32)
NOW_US = 1_800_000_000_000_000
MINUTE_US = 60_000_000


class Clock:
    now = NOW_US

    def __call__(self) -> int:
        return self.now


def tokens(clock: Clock | None = None, master: MasterKey = MASTER) -> Tokens:
    return Tokens(master, now_us=clock or Clock())


def encode(claims: dict[str, object], master: MasterKey = MASTER) -> str:
    key = Ed25519PrivateKey.from_private_bytes(master.derive("token-signing"))
    return jwt.encode(claims, key, algorithm="EdDSA")


def test_a_token_names_its_key_and_ends_after_a_quarter_of_an_hour() -> None:
    token, claims = tokens().issue("key_1", not_after=None)

    assert claims == Claims("key_1", NOW_US + 15 * MINUTE_US)
    assert tokens().verify(token) == claims


def test_a_token_ends_with_its_key() -> None:
    _, claims = tokens().issue("key_1", not_after=NOW_US + MINUTE_US)

    assert claims.expires_at == NOW_US + MINUTE_US


def test_a_token_is_refused_from_the_moment_it_ends() -> None:
    clock = Clock()
    token, claims = tokens(clock).issue("key_1", not_after=None)

    clock.now = claims.expires_at - 1
    assert tokens(clock).verify(token) == claims
    clock.now = claims.expires_at
    with pytest.raises(ExpiredToken):
        tokens(clock).verify(token)


def test_the_lifetime_can_be_chosen() -> None:
    _, claims = Tokens(MASTER, lifetime=timedelta(minutes=1), now_us=Clock()).issue("key_1", not_after=None)

    assert claims.expires_at == NOW_US + MINUTE_US


def test_a_token_of_another_installation_is_refused() -> None:
    token, _ = tokens(master=MasterKey(b"o" * 32)).issue("key_1", not_after=None)

    with pytest.raises(BadToken, match="Signature verification failed"):
        tokens().verify(token)


def test_a_changed_token_is_refused() -> None:
    token, _ = tokens().issue("key_1", not_after=None)
    header, payload, signature = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    forged = base64.urlsafe_b64encode(json.dumps({**claims, "sub": "key_2"}).encode()).decode().rstrip("=")

    with pytest.raises(BadToken):
        tokens().verify(f"{header}.{forged}.{signature}")


@pytest.mark.parametrize(
    "token",
    [
        "",
        "nonsense",
        "a.b.c",
        "x" * 5000,
        # alg "none", and a signature made with the public key as an HMAC secret
        jwt.encode(
            {"iss": "interlock", "aud": "interlock", "sub": "key_1", "exp": 2**40}, "", algorithm="none"
        ),
        jwt.encode({"iss": "interlock", "aud": "interlock", "sub": "key_1", "exp": 2**40}, "k" * 32),
        encode({"iss": "other", "aud": "interlock", "sub": "key_1", "exp": 2**40}),
        encode({"iss": "interlock", "aud": "other", "sub": "key_1", "exp": 2**40}),
        encode({"iss": "interlock", "aud": "interlock", "exp": 2**40}),
        encode({"iss": "interlock", "aud": "interlock", "sub": "key_1"}),
    ],
)
def test_what_is_no_token_of_ours_is_refused(token: str) -> None:
    with pytest.raises(BadToken):
        tokens().verify(token)
