"""ExchangeApiKey: what is accepted, what is refused, and what the audit log keeps of it."""

from __future__ import annotations

import json

import pytest

from control_plane.identity import failure_limit, store
from control_plane.identity.credentials import Credential
from control_plane.identity.errors import BadCredentials, TooManyFailures
from control_plane.identity.principal import anonymous
from tests.integration.identity.house import ADMIN, House

STRANGER = anonymous("198.51.100.7")


async def test_a_key_is_exchanged_for_a_token_that_authenticates_as_it(house: House) -> None:
    key, credential = await house.create("Grace", teams=("ops", "dev"))

    exchanged = await house.keys.exchange(STRANGER, credential)

    metadata = [("authorization", f"Bearer {exchanged.access_token}")]
    caller = await house.authenticator.authenticate(metadata, "198.51.100.7")
    assert caller == key.principal("198.51.100.7")
    assert caller.teams == ("dev", "ops")


async def test_every_wrong_credential_gets_the_same_answer_and_the_log_knows_the_cause(house: House) -> None:
    expiring, expired = await house.create("Expiring", expires_at=house.clock.now + 1)
    gone, revoked = await house.create("Gone")
    kept, good = await house.create("Kept")
    await house.keys.revoke(ADMIN, gone.id)
    house.clock.advance(1)

    answers = set()
    for credential in (
        Credential("key_" + "0" * 26, good.secret),
        Credential(kept.id, "wrong"),
        Credential(kept.id, ""),
        revoked,
        expired,
    ):
        with pytest.raises(BadCredentials) as caught:
            await house.keys.exchange(STRANGER, credential)
        answers.add(caught.value.message)

    assert len(answers) == 1
    rejected = await house.audited("key.rejected")
    causes = [json.loads(row.details)["cause"] for row in rejected]
    assert causes == ["unknown key", "wrong secret", "wrong secret", "revoked", "expired"]
    assert [row.resource_id for row in rejected] == [
        "key_" + "0" * 26,
        kept.id,
        kept.id,
        gone.id,
        expiring.id,
    ]
    assert {row.remote_ip for row in rejected} == {"198.51.100.7"}


async def test_a_secret_that_was_sent_as_the_id_is_not_written_to_the_log(house: House) -> None:
    with pytest.raises(BadCredentials):
        await house.keys.exchange(STRANGER, Credential("a-secret-in-the-wrong-field", "x"))

    (rejected,) = await house.audited("key.rejected")
    assert rejected.resource_id == ""
    assert "a-secret" not in rejected.details


async def test_wrong_credentials_cannot_flood_the_log_and_right_ones_still_work(house: House) -> None:
    _, good = await house.create()
    bad = Credential(good.id, "wrong")
    for _ in range(failure_limit.PEER_BURST):
        with pytest.raises(BadCredentials):
            await house.keys.exchange(STRANGER, bad)
    for _ in range(20):
        with pytest.raises(TooManyFailures):
            await house.keys.exchange(STRANGER, bad)

    assert len(await house.audited("key.rejected")) == failure_limit.PEER_BURST
    assert (await house.keys.exchange(STRANGER, good)).access_token


async def test_the_last_use_is_kept_to_the_minute(house: House) -> None:
    key, credential = await house.create()

    async def last_use() -> int | None:
        found = await house.db.read(lambda connection: store.find(connection, key.id))
        assert found is not None
        return found.last_used_at

    assert await last_use() is None
    await house.keys.exchange(STRANGER, credential)
    first = await last_use()
    assert first == house.clock.now
    house.clock.advance(1)
    await house.keys.exchange(STRANGER, credential)
    assert await last_use() == first
    house.clock.advance(60)
    await house.keys.exchange(STRANGER, credential)
    assert await last_use() == house.clock.now
