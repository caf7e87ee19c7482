"""The authorization header."""

from __future__ import annotations

import pytest

from control_plane.identity.authenticator import bearer_token
from control_plane.identity.errors import BadToken, NoToken


@pytest.mark.parametrize("value", ["Bearer abc", "bearer abc", "BEARER  abc ", b"Bearer abc"])
def test_the_token_is_what_follows_bearer(value: str | bytes) -> None:
    assert bearer_token([("user-agent", "x"), ("authorization", value)]) == "abc"


@pytest.mark.parametrize("metadata", [None, [], [("user-agent", "x")], [("authorization", "Bearer ")]])
def test_a_call_without_a_token_is_told_how_to_get_one(metadata: list[tuple[str, str]] | None) -> None:
    with pytest.raises(NoToken, match="ExchangeApiKey"):
        bearer_token(metadata)


@pytest.mark.parametrize(
    "metadata",
    [
        [("authorization", "Basic abc")],
        [("authorization", "abc")],
        [("authorization", "Bearer a"), ("authorization", "Bearer b")],
    ],
)
def test_another_kind_of_authorization_is_refused(metadata: list[tuple[str, str]]) -> None:
    with pytest.raises(BadToken):
        bearer_token(metadata)
