"""The whole way of a token over a real gRPC server: header, interceptor, status with its details."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from control_plane.interceptors import CallInterceptor
from interlock.v1 import identity_service_pb2 as rpc
from interlock.v1.identity_pb2 import ApiKey
from interlock.v1.identity_service_pb2_grpc import IdentityServiceStub, add_IdentityServiceServicer_to_server
from tests.integration.identity.house import House

if TYPE_CHECKING:
    from interlock.v1.identity_service_pb2_grpc import IdentityServiceAsyncStub


@pytest.fixture
async def stub(house: House) -> AsyncIterator[IdentityServiceAsyncStub]:
    server = grpc.aio.server(interceptors=[CallInterceptor(house.authenticator)])
    add_IdentityServiceServicer_to_server(house.servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield IdentityServiceStub(channel)
    await server.stop(0)


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


def status_of(error: grpc.aio.AioRpcError) -> status_pb2.Status:
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # an AioRpcError has what it reads of a call
    assert status is not None
    return status


def answer(error: grpc.aio.AioRpcError) -> tuple[grpc.StatusCode, str]:
    """Code and reason of an error."""
    info = error_details_pb2.ErrorInfo()
    assert status_of(error).details[0].Unpack(info)
    assert info.domain == "interlock.dev"
    return error.code(), info.reason


async def refusal(
    stub: IdentityServiceAsyncStub, metadata: tuple[tuple[str, str], ...]
) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.GetCaller(rpc.GetCallerRequest(), metadata=metadata)
    return answer(caught.value)


async def test_a_key_is_exchanged_and_its_token_says_who_calls(
    house: House, stub: IdentityServiceAsyncStub
) -> None:
    _, credential = await house.create("Grace", teams=("ops",))

    exchanged = await stub.ExchangeApiKey(
        rpc.ExchangeApiKeyRequest(key_id=credential.id, secret=credential.secret)
    )
    caller = await stub.GetCaller(rpc.GetCallerRequest(), metadata=bearer(exchanged.access_token))

    assert caller == exchanged.caller
    assert (caller.login, list(caller.teams)) == ("Grace", ["ops"])


async def test_no_wrong_expired_and_revoked_tokens_each_get_their_reason(
    house: House, stub: IdentityServiceAsyncStub
) -> None:
    unauthenticated = grpc.StatusCode.UNAUTHENTICATED
    key, credential = await house.create()
    token = await house.token(credential)

    assert await refusal(stub, ()) == (unauthenticated, "NO_TOKEN")
    assert await refusal(stub, bearer("nonsense")) == (unauthenticated, "BAD_TOKEN")
    assert await refusal(stub, (("authorization", "Basic abc"),)) == (unauthenticated, "BAD_TOKEN")
    await stub.GetCaller(rpc.GetCallerRequest(), metadata=bearer(token))
    await house.revoke(key.id)
    assert await refusal(stub, bearer(token)) == (unauthenticated, "BAD_TOKEN")
    house.clock.advance(15 * 60)
    assert await refusal(stub, bearer(token)) == (unauthenticated, "EXPIRED_TOKEN")


async def test_wrong_credentials_are_refused_and_audited_with_the_callers_address(
    house: House, stub: IdentityServiceAsyncStub
) -> None:
    key, _ = await house.create()

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.ExchangeApiKey(rpc.ExchangeApiKeyRequest(key_id=key.id, secret="wrong"))

    assert answer(caught.value) == (grpc.StatusCode.UNAUTHENTICATED, "BAD_CREDENTIALS")
    (event,) = await house.audited("key.rejected")
    assert (event.caller_login, event.remote_ip) == ("anonymous", "127.0.0.1")


async def test_a_peer_that_fails_on_and_on_is_told_when_to_come_back(
    house: House, stub: IdentityServiceAsyncStub
) -> None:
    errors = []
    for _ in range(11):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.ExchangeApiKey(rpc.ExchangeApiKeyRequest(key_id="key_x", secret="wrong"))
        errors.append(caught.value)

    assert answer(errors[9]) == (grpc.StatusCode.UNAUTHENTICATED, "BAD_CREDENTIALS")
    assert answer(errors[10]) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED")
    retry = error_details_pb2.RetryInfo()
    assert status_of(errors[10]).details[1].Unpack(retry)
    assert retry.retry_delay.seconds == 6


async def test_fields_that_break_their_rule_are_named(house: House, stub: IdentityServiceAsyncStub) -> None:
    _, credential = await house.create("Root", admin=True)
    token = await house.token(credential)

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.CreateApiKey(
            rpc.CreateApiKeyRequest(api_key=ApiKey(name="--help"), request_id="no spaces"),
            metadata=bearer(token),
        )

    assert answer(caught.value) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert "api_key.name" in (caught.value.details() or "")
    assert "request_id" in (caught.value.details() or "")
