"""API keys through the servicer: made, listed, revoked; invariants 7 (audited) and 8 (request_id, bad input)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, cast

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from control_plane import clock, errors
from control_plane.identity import principal
from control_plane.identity.credentials import Credential
from control_plane.identity.principal import Principal
from control_plane.identity.rules import first_admin_key
from control_plane.paging import BadPageToken
from interlock.v1 import identity_service_pb2 as rpc
from interlock.v1.identity_pb2 import ApiKey
from tests.integration.identity.house import ADMIN, House

READER = Principal(id="key_reader", login="rob", name="Rob")
CONTEXT = cast("Any", None)


@pytest.fixture(autouse=True)
def as_admin() -> Iterator[None]:
    token = principal.current.set(ADMIN)
    yield
    principal.current.reset(token)


async def create(house: House, request_id: str = "", **fields: Any) -> rpc.CreateApiKeyResponse:
    request = rpc.CreateApiKeyRequest(api_key=ApiKey(**{"name": "Grace", **fields}), request_id=request_id)
    return await house.servicer.CreateApiKey(request, CONTEXT)


async def logins(house: House, **fields: Any) -> list[str]:
    response = await house.servicer.ListApiKeys(rpc.ListApiKeysRequest(**fields), CONTEXT)
    return [key.login for key in response.api_keys]


async def test_a_new_key_works_and_shows_what_was_asked_for(house: House) -> None:
    end = clock.to_timestamp(house.clock.now + 60_000_000)
    made = await create(house, name="Grace Hopper", teams=["ops", "dev"], machine=True, expire_time=end)

    key = made.api_key
    assert (key.name, key.login, list(key.teams)) == ("Grace Hopper", "grace-hopper", ["dev", "ops"])
    assert (key.admin, key.machine, key.expire_time) == (False, True, end)
    assert not key.HasField("revoke_time")
    response = await house.servicer.ExchangeApiKey(
        rpc.ExchangeApiKeyRequest(key_id=key.id, secret=made.secret), CONTEXT
    )
    assert response.caller.login == "grace-hopper"


async def test_making_a_key_is_audited_without_its_secret(house: House) -> None:
    """Invariant 7: every change is in the audit log, in the same transaction as the change."""
    made = await create(house, admin=True)

    (event,) = await house.audited("api_key.created")
    assert (event.caller_login, event.resource_id, event.remote_ip) == ("ada", made.api_key.id, "192.0.2.1")
    assert json.loads(event.details)["admin"] is True
    assert made.secret not in event.details


async def test_a_name_that_can_be_a_login_is_taken_as_it_is(house: House) -> None:
    assert (await create(house, name="grace@example.org")).api_key.login == "grace@example.org"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": "数据"}, "api_key.login"),
        ({"login": "system"}, "api_key.login"),
        ({"login": "Anonymous"}, "api_key.login"),
        ({"expire_time": Timestamp(seconds=1)}, "api_key.expire_time"),
        ({"expire_time": Timestamp(seconds=2**62)}, "api_key.expire_time"),
    ],
)
async def test_bad_input_names_its_field_and_changes_nothing(
    house: House, fields: dict[str, Any], field: str
) -> None:
    with pytest.raises(errors.InvalidField) as caught:
        await create(house, **fields)

    assert caught.value.violations[0][0] == field
    assert await logins(house) == []
    assert await house.audited("api_key.created") == []


async def test_two_keys_in_force_never_share_a_login(house: House) -> None:
    await create(house, login="grace")

    with pytest.raises(errors.AlreadyExists, match="'grace'"):
        await create(house, name="Another", login="grace")
    assert len(await house.audited("api_key.created")) == 1


async def test_the_login_of_a_revoked_or_expired_key_is_free_again(house: House) -> None:
    first = await create(house, login="grace")
    await house.servicer.RevokeApiKey(rpc.RevokeApiKeyRequest(key_id=first.api_key.id), CONTEXT)
    await create(house, login="grace", expire_time=clock.to_timestamp(house.clock.now + 1_000_000))
    house.clock.advance(1)
    await create(house, login="grace")

    assert await logins(house) == ["grace"]
    assert await logins(house, show_ended=True) == ["grace", "grace", "grace"]
    assert len(await house.audited("api_key.revoked")) == 2


async def test_a_repeated_request_gives_the_same_key_without_its_secret(house: House) -> None:
    """Invariant 8: the same request_id twice gives the same resource, not two."""
    first = await create(house, "once")
    second = await create(house, "once")

    assert second.api_key == first.api_key
    assert (bool(first.secret), second.secret) == (True, "")
    assert len(await house.audited("api_key.created")) == 1


async def test_a_request_id_with_other_content_is_refused(house: House) -> None:
    await create(house, "once")

    with pytest.raises(errors.RequestIdReused):
        await create(house, "once", name="Another")
    assert await logins(house) == ["Grace"]


async def test_keys_are_listed_newest_first_page_by_page(house: House) -> None:
    for number in range(5):
        await create(house, name=f"k{number}")

    seen: list[str] = []
    request = rpc.ListApiKeysRequest(page_size=2)
    while True:
        page = await house.servicer.ListApiKeys(request, CONTEXT)
        seen += [key.login for key in page.api_keys]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token

    assert seen == ["k4", "k3", "k2", "k1", "k0"]


async def test_a_page_token_of_another_query_is_refused(house: House) -> None:
    for number in range(3):
        await create(house, name=f"k{number}")
    page = await house.servicer.ListApiKeys(rpc.ListApiKeysRequest(page_size=1), CONTEXT)

    with pytest.raises(BadPageToken):
        await logins(house, show_ended=True, page_token=page.next_page_token)
    with pytest.raises(BadPageToken):
        await logins(house, page_token="nonsense")


async def test_revoking_is_audited_once_however_often_it_is_asked_for(house: House) -> None:
    """Invariant 7: every change is in the audit log."""
    made = await create(house)
    request = rpc.RevokeApiKeyRequest(key_id=made.api_key.id)

    first = await house.servicer.RevokeApiKey(request, CONTEXT)
    house.clock.advance(10)
    second = await house.servicer.RevokeApiKey(request, CONTEXT)

    assert first == second
    assert first.revoke_time == clock.to_timestamp(house.clock.now - 10_000_000)
    assert len(await house.audited("api_key.revoked")) == 1


async def test_the_last_admin_key_in_force_cannot_be_revoked(house: House) -> None:
    one = await create(house, name="one", admin=True)
    two = await create(house, name="two", admin=True)
    await create(house, name="ends", admin=True, expire_time=clock.to_timestamp(house.clock.now + 1))
    house.clock.advance(1)
    await house.servicer.RevokeApiKey(rpc.RevokeApiKeyRequest(key_id=one.api_key.id), CONTEXT)

    with pytest.raises(errors.InUse, match="last admin key"):
        await house.servicer.RevokeApiKey(rpc.RevokeApiKeyRequest(key_id=two.api_key.id), CONTEXT)
    assert await logins(house) == ["two"]


async def test_an_unknown_key_cannot_be_revoked(house: House) -> None:
    with pytest.raises(errors.NotFound):
        await house.servicer.RevokeApiKey(rpc.RevokeApiKeyRequest(key_id="key_" + "0" * 26), CONTEXT)


async def test_keys_are_the_business_of_admins_alone(house: House) -> None:
    made = await create(house)
    principal.current.set(READER)

    with pytest.raises(errors.NotAllowed):
        await create(house, name="Another")
    with pytest.raises(errors.NotAllowed):
        await logins(house)
    with pytest.raises(errors.NotAllowed):
        await house.servicer.RevokeApiKey(rpc.RevokeApiKeyRequest(key_id=made.api_key.id), CONTEXT)


async def test_a_caller_sees_who_it_is(house: House) -> None:
    assert await house.servicer.GetCaller(rpc.GetCallerRequest(), CONTEXT) == ADMIN.to_caller()


async def test_the_first_start_makes_one_admin_key_and_later_ones_none(house: House) -> None:
    first = await first_admin_key(house.db)

    assert first is not None
    key, credential = first
    house.clock.now = key.created_at
    assert key.admin
    assert (await house.keys.exchange(ADMIN, Credential.parse(credential.text))).key.id == key.id
    assert await first_admin_key(house.db) is None
    (event,) = await house.audited("api_key.created")
    assert event.caller_login == "system"
