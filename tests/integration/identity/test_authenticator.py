"""From a bearer token to a principal, with real keys."""

from __future__ import annotations

import pytest

from control_plane.errors import DatabaseUnavailable
from control_plane.identity.authenticator import Authenticator
from control_plane.identity.errors import BadToken, ExpiredToken, NoToken
from control_plane.identity.tokens import Tokens
from tests.integration.identity.house import ADMIN, MASTER, House


def bearer(token: str) -> list[tuple[str, str]]:
    return [("authorization", f"Bearer {token}")]


async def test_no_wrong_and_expired_tokens_are_told_apart(house: House) -> None:
    _, credential = await house.create()
    token = await house.token(credential)

    with pytest.raises(NoToken):
        await house.authenticator.authenticate([])
    with pytest.raises(BadToken):
        await house.authenticator.authenticate(bearer(token[:-2]))
    house.clock.advance(15 * 60)
    with pytest.raises(ExpiredToken):
        await house.authenticator.authenticate(bearer(token))


async def test_a_token_that_was_seen_is_known_without_the_database_until_its_key_is_due(house: House) -> None:
    key, credential = await house.create()
    token = await house.token(credential)
    assert house.authenticator.cached(token) is None
    await house.authenticator.authenticate(bearer(token), "192.0.2.9")

    assert house.authenticator.cached(token, "192.0.2.9") == key.principal("192.0.2.9")
    assert house.authenticator.cached(token, "192.0.2.10") == key.principal("192.0.2.10")
    house.clock.advance(2)
    assert house.authenticator.cached(token, "192.0.2.9") is None


async def test_a_cached_token_ends_when_its_time_is_over(house: House) -> None:
    _, credential = await house.create()
    token = await house.token(credential)
    house.clock.advance(15 * 60 - 1)
    await house.authenticator.authenticate(bearer(token))
    house.clock.advance(1)

    assert house.authenticator.cached(token) is None
    with pytest.raises(ExpiredToken):
        await house.authenticator.authenticate(bearer(token))


async def test_the_tokens_of_a_revoked_key_stop_at_once(house: House) -> None:
    await house.create("Root", admin=True)
    key, credential = await house.create()
    other_key, other_credential = await house.create("Other")
    tokens = [await house.token(credential) for _ in range(2)]
    other = await house.token(other_credential)
    for token in (*tokens, other):
        await house.authenticator.authenticate(bearer(token))

    await house.keys.revoke(ADMIN, key.id)

    for token in tokens:
        assert house.authenticator.cached(token) is None
        with pytest.raises(BadToken, match="revoked"):
            await house.authenticator.authenticate(bearer(token))
    assert await house.authenticator.authenticate(bearer(other)) == other_key.principal("")


async def test_an_old_answer_of_the_database_does_not_bring_a_revoked_key_back(house: House) -> None:
    key, credential = await house.create()
    token = await house.token(credential)

    # As when the key is read, and revoked here before the reader goes on.
    house.authenticator.forget(key.id)

    with pytest.raises(BadToken):
        await house.authenticator.authenticate(bearer(token))


async def test_a_key_that_another_control_plane_revoked_stops_within_seconds(house: House) -> None:
    key, credential = await house.create()
    token = await house.token(credential)
    await house.authenticator.authenticate(bearer(token))
    await House(house.db, house.clock).keys.revoke(ADMIN, key.id)

    house.clock.advance(2)

    assert house.authenticator.cached(token) is None
    with pytest.raises(BadToken):
        await house.authenticator.authenticate(bearer(token))


async def test_a_token_ends_with_its_key(house: House) -> None:
    _, credential = await house.create(expires_at=house.clock.now + 60_000_000)
    token = await house.token(credential)
    await house.authenticator.authenticate(bearer(token))
    house.clock.advance(60)

    with pytest.raises(ExpiredToken):
        await house.authenticator.authenticate(bearer(token))


async def test_the_tokens_kept_in_memory_are_bounded(house: House) -> None:
    _, credential = await house.create()
    tokens = [await house.token(credential) for _ in range(5)]
    authenticator = Authenticator(
        house.db, Tokens(MASTER, now_us=house.clock), max_cached=3, now_us=house.clock
    )
    for token in tokens:
        await authenticator.authenticate(bearer(token))

    assert [authenticator.cached(token) is not None for token in tokens] == [False, False, True, True, True]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_nobody_is_let_in_while_the_database_does_not_answer(house: House) -> None:
    _, credential = await house.create()
    token = await house.token(credential)
    await house.authenticator.authenticate(bearer(token))
    await house.db.write(lambda connection: connection.exec_driver_sql("ALTER TABLE api_keys RENAME TO gone"))
    house.clock.advance(2)

    with pytest.raises(DatabaseUnavailable):
        await house.authenticator.authenticate(bearer(token))
