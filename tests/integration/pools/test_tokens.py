"""Pool tokens: made, listed, revoked; and which runners they let in."""

from __future__ import annotations

import json

import pytest

from control_plane import errors
from control_plane.identity import failure_limit, principal
from control_plane.identity.errors import BadCredentials, TooManyFailures
from control_plane.identity.principal import anonymous
from control_plane.pools.admission import PoolTokenInfo
from interlock.v1 import pool_service_pb2 as rpc
from interlock.v1.pool_pb2 import PoolToken
from tests.integration.pools.house import CONTEXT, House, hello


async def tokens(house: House, pool_id: str = "public") -> list[PoolToken]:
    request = rpc.ListPoolTokensRequest(pool_id=pool_id)
    return list((await house.servicer.ListPoolTokens(request, CONTEXT)).pool_tokens)


async def test_a_new_token_lets_runners_of_its_pool_in(house: House) -> None:
    await house.create("Blue")
    made = await house.create_token("blue", "machine room")

    assert made.secret.startswith(f"{made.pool_token.id}.")
    assert (made.pool_token.pool_id, made.pool_token.name) == ("blue", "machine room")
    assert await house.admission.authenticate(made.secret) == PoolTokenInfo("blue", made.pool_token.id)


async def test_making_and_revoking_a_token_is_audited_without_its_secret(house: House) -> None:
    """Invariant 7: every change is in the audit log, in the same transaction as the change."""
    made = await house.create_token(name="n")
    await house.revoke(made.pool_token.id)
    await house.revoke(made.pool_token.id)

    events = [*await house.audited("pool_token.created"), *await house.audited("pool_token.revoked")]
    assert [event.resource_id for event in events] == [made.pool_token.id] * 2
    secret = made.secret.partition(".")[2]
    assert all(secret not in event.details for event in events)


async def test_a_repeated_request_gives_the_same_token_without_its_secret(house: House) -> None:
    """Invariant 8: the same request_id twice gives the same resource, not two."""
    first = await house.create_token(request_id="once")
    second = await house.create_token(request_id="once")

    assert second.pool_token == first.pool_token
    assert second.secret == ""
    with pytest.raises(errors.RequestIdReused):
        await house.create_token(name="other", request_id="once")
    assert len(await tokens(house)) == 1


async def test_an_unknown_pool_gets_no_token(house: House) -> None:
    with pytest.raises(errors.NotFound):
        await house.create_token("none")
    with pytest.raises(errors.NotFound):
        await tokens(house, "none")


async def test_tokens_are_listed_newest_first(house: House) -> None:
    made = [(await house.create_token()).pool_token.id for _ in range(3)]

    assert [token.id for token in await tokens(house)] == made[::-1]


async def test_a_wrong_token_gets_one_answer_and_the_log_knows_the_cause(house: House) -> None:
    good, revoked = await house.create_token(), await house.create_token()
    await house.revoke(revoked.pool_token.id)
    principal.current.set(anonymous("198.51.100.7"))

    answers = set()
    for text in (
        "ptk_" + "0" * 26 + ".secret",
        f"{good.pool_token.id}.wrong",
        good.pool_token.id,
        revoked.secret,
        "nonsense",
        "",
    ):
        with pytest.raises(BadCredentials) as caught:
            await house.admission.authenticate(text)
        answers.add(caught.value.message)

    assert len(answers) == 1
    rejected = await house.audited("pool_token.rejected")
    causes = [json.loads(event.details)["cause"] for event in rejected]
    assert causes == [
        "unknown token",
        "wrong secret",
        "wrong secret",
        "revoked",
        "unknown token",
        "unknown token",
    ]
    assert {event.remote_ip for event in rejected} == {"198.51.100.7"}
    assert [event.resource_id for event in rejected][4:] == ["", ""]


async def test_wrong_tokens_cannot_flood_the_log(house: House) -> None:
    for _ in range(failure_limit.PEER_BURST):
        with pytest.raises(BadCredentials):
            await house.admission.authenticate("ptk_x.y")
    with pytest.raises(TooManyFailures):
        await house.admission.authenticate("ptk_x.y")

    assert len(await house.audited("pool_token.rejected")) == failure_limit.PEER_BURST


async def test_revoking_a_token_cuts_off_the_runners_that_used_it_and_no_others(house: House) -> None:
    one, two = await house.create_token(), await house.create_token()
    cut, kept = await house.connect(one.secret, hello(1)), await house.connect(two.secret, hello(2))

    revoked = await house.revoke(one.pool_token.id)

    assert revoked.HasField("revoke_time")
    assert isinstance(cut.ended.result(), BadCredentials)
    assert not kept.ended.done()
    with pytest.raises(BadCredentials):
        await house.connect(one.secret, hello(1))


async def test_a_token_that_is_revoked_while_a_runner_connects_does_not_let_it_in(house: House) -> None:
    made = await house.create_token()
    token = await house.admission.authenticate(made.secret)
    await house.revoke(made.pool_token.id)

    with pytest.raises(BadCredentials):
        await house.admission.record(hello(), token, may_move=lambda _: True)
    assert await house.audited("runner.registered") == []


async def test_a_runner_with_another_pools_token_is_refused_and_stays_where_it_was(house: House) -> None:
    await house.create("Blue")
    mine, other = await house.create_token("public"), await house.create_token("blue")
    await house.connect(mine.secret, hello())

    with pytest.raises(errors.NotAllowed, match="belongs to pool 'public'"):
        await house.connect(other.secret, hello())

    (runner,) = await house.list_runners()
    assert runner.pool_id == "public"


async def test_the_last_use_is_kept_to_the_minute(house: House) -> None:
    made = await house.create_token()
    assert not made.pool_token.HasField("last_use_time")
    await house.admission.authenticate(made.secret)
    first = (await tokens(house))[0].last_use_time
    house.clock.advance(1)
    await house.admission.authenticate(made.secret)
    assert (await tokens(house))[0].last_use_time == first
    house.clock.advance(60)
    await house.admission.authenticate(made.secret)

    assert (await tokens(house))[0].last_use_time.seconds == first.seconds + 60
