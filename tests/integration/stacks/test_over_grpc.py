"""Stacks over a real gRPC server: what the wire adds to the rules."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING, TypeVar

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from control_plane.identity.authenticator import Authenticator
from control_plane.identity.principal import Principal
from control_plane.interceptors import CallInterceptor
from interlock.v1 import errors_pb2, stack_pb2
from interlock.v1 import stack_service_pb2 as rpc
from interlock.v1.stack_service_pb2_grpc import StackServiceStub, add_StackServiceServicer_to_server
from tests.integration.stacks.house import ADMIN, WRITER, House, a_stack, a_tar, upload_parts

if TYPE_CHECKING:
    from interlock.v1.stack_service_pb2_grpc import StackServiceAsyncStub

Detail = TypeVar("Detail", bound=Message)

CALLERS = {principal.login: principal for principal in (ADMIN, WRITER)}


class Logins(Authenticator):
    """Believes the login in the header; tokens have tests of their own."""

    def __init__(self) -> None:
        """Needs neither database nor key."""

    async def authenticate(
        self, metadata: Iterable[tuple[str, str | bytes]] | None, remote_ip: str = ""
    ) -> Principal:
        return CALLERS[str(dict(metadata or ())["authorization"])]


@pytest.fixture
async def stub(house: House) -> AsyncIterator[StackServiceAsyncStub]:
    server = grpc.aio.server(interceptors=[CallInterceptor(Logins())])
    add_StackServiceServicer_to_server(house.servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield StackServiceStub(channel)
    await server.stop(0)


def by(principal: Principal) -> tuple[tuple[str, str], ...]:
    return (("authorization", principal.login),)


def answer(error: grpc.aio.AioRpcError, detail: Detail) -> tuple[str, Detail]:
    """The error's reason and its detail of this type."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # an AioRpcError has what it reads of a call
    assert status is not None
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert any(packed.Unpack(detail) for packed in status.details)
    return info.reason, detail


async def test_the_whole_life_of_a_stack(stub: StackServiceAsyncStub) -> None:
    made = await stub.CreateStack(rpc.CreateStackRequest(stack=a_stack("")), metadata=by(ADMIN))
    content = a_tar(main=b"x" * 500_000)
    uploaded = await stub.UploadSource(upload_parts(content, made.id), metadata=by(WRITER))
    locked = await stub.LockStacks(
        rpc.LockStacksRequest(stack_ids=[made.id], note="mine"), metadata=by(WRITER)
    )
    unlocked = await stub.UnlockStacks(rpc.UnlockStacksRequest(stack_ids=[made.id]), metadata=by(WRITER))
    listed = await stub.ListStacks(rpc.ListStacksRequest(), metadata=by(WRITER))
    await stub.DeleteStack(rpc.DeleteStackRequest(stack_id=made.id), metadata=by(ADMIN))

    assert uploaded.source.archive.sha256 == hashlib.sha256(content).hexdigest()
    assert (locked.stacks[0].lock.owner.login, locked.stacks[0].lock.note) == ("will", "mine")
    assert not unlocked.stacks[0].HasField("lock")
    assert list(listed.stacks) == list(unlocked.stacks)


async def test_who_holds_the_lock_is_in_the_status(stub: StackServiceAsyncStub, house: House) -> None:
    await house.create()
    await house.locks.lock(WRITER, ["network"], "migrating")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.LockStacks(rpc.LockStacksRequest(stack_ids=["network"]), metadata=by(ADMIN))
    reason, detail = answer(caught.value, errors_pb2.StackLocked())
    assert (caught.value.code(), reason) == (grpc.StatusCode.FAILED_PRECONDITION, "STACK_LOCKED")
    assert (detail.owner.login, detail.note) == ("will", "migrating")


async def test_each_bad_field_is_named_and_nothing_is_set(stub: StackServiceAsyncStub, house: House) -> None:
    before = await house.create()
    request = rpc.SetEnvironmentRequest(
        stack_id="network",
        variables=[
            stack_pb2.EnvironmentVariable(name="GOOD", value="x"),
            stack_pb2.EnvironmentVariable(name="NUL", value="a\0b"),
            stack_pb2.EnvironmentVariable(name="NO-SHELL-NAME"),
        ],
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.SetEnvironment(request, metadata=by(WRITER))
    reason, detail = answer(caught.value, error_details_pb2.BadRequest())
    assert (caught.value.code(), reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert len(detail.field_violations) == 2
    assert all("variables" in violation.field for violation in detail.field_violations)
    assert await house.load() == before


async def test_a_bad_archive_is_refused_with_what_is_wrong_in_it(
    stub: StackServiceAsyncStub, house: House
) -> None:
    await house.create()
    with pytest.raises(grpc.aio.AioRpcError, match="source is unchanged") as caught:
        await stub.UploadSource(upload_parts(b"no tar at all" * 100, "network"), metadata=by(WRITER))
    reason, _ = answer(caught.value, error_details_pb2.BadRequest())
    assert reason == "BAD_ARCHIVE"
