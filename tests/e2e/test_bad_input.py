"""Invariant 8: bad input gets a clear error that names the field, and changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import jwt
import pytest

import interlock
from interlock import errors, types
from interlock.client import Client
from interlock.v1 import (
    identity_service_pb2,
    identity_service_pb2_grpc,
    run_service_pb2,
    run_service_pb2_grpc,
)
from tests.e2e.conftest import new_id, new_stack
from tests.house import House

Call = Callable[[Client, str], Awaitable[object]]

NO_RUN = "run_00000000000000000000000000"

# What is called with an admin's client and the id of a stack that exists; the field that the error must name.
WRONG_FIELDS: dict[str, tuple[Call, str]] = {
    "empty command": (lambda c, s: c.runs.create_task(s, ""), "command"),
    "blank command": (lambda c, s: c.runs.create_task(s, " \n\t"), "command"),
    "command over 64 KiB": (lambda c, s: c.runs.create_task(s, "x" * 65_537), "command"),
    "NUL in the command": (lambda c, s: c.runs.create_task(s, "echo \0"), "command"),
    "NUL in a name": (lambda c, _: c.stacks.create("a\0b", image="x", tool="custom"), "stack.name"),
    "a name that is a path": (lambda c, _: c.stacks.create("../etc", image="x", tool="custom"), "stack.name"),
    "a name that is an option": (
        lambda c, _: c.stacks.create("--help", image="x", tool="custom"),
        "stack.name",
    ),
    "an id that is a path": (
        lambda c, _: c.stacks.create("fine", stack_id="a/b", image="x", tool="custom"),
        "stack.id",
    ),
    "an id that is an option": (lambda c, _: c.stacks.get("-rf"), "stack_id"),
    "an image that is an option": (
        lambda c, _: c.stacks.create("fine", image="--privileged", tool="custom"),
        "stack.image",
    ),
    "a variable that is no shell name": (
        lambda c, s: c.stacks.set_environment(s, variables={"A-B": "x"}),
        "variables[0].name",
    ),
    "a variable that starts with a digit": (
        lambda c, s: c.stacks.set_environment(s, variables={"1A": "x"}),
        "variables[0].name",
    ),
    "a variable of Interlock's own": (
        lambda c, s: c.stacks.set_environment(s, variables={"INTERLOCK_RUN_ID": "x"}),
        "variables[0].name",
    ),
    "a secret of three bytes": (
        lambda c, s: c.stacks.set_environment(s, secrets={"TOKEN": "abc"}),
        "variables[0].value",
    ),
    "a mounted file that leaves the workspace": (
        lambda c, s: c.stacks.set_environment(s, files={"../etc/passwd": b"x"}),
        "files[0].path",
    ),
    "a mounted file with an absolute path": (
        lambda c, s: c.stacks.set_environment(s, files={"/etc/passwd": b"x"}),
        "files[0].path",
    ),
    "a git address that runs a program": (
        lambda c, _: c.stacks.create(
            "g", image="x", tool="custom", source=interlock.git("ext::sh -c id", ref="main")
        ),
        "stack.source.git.repository_url",
    ),
    "a git ref that is an option": (
        lambda c, _: c.stacks.create(
            "g",
            image="x",
            tool="custom",
            source=interlock.git("https://example.com/r.git", ref="--upload-pack=id"),
        ),
        "stack.source.git.ref",
    ),
    "a request_id with a space": (lambda c, s: c.runs.create_task(s, "true", request_id="a b"), "request_id"),
    "a policy without a kind": (
        lambda c, _: c.policies.create("p", kind=types.PolicyKind.POLICY_KIND_UNSPECIFIED, body="package a"),
        "policy.kind",
    ),
}


@pytest.mark.parametrize("case", WRONG_FIELDS)
async def test_a_wrong_field_is_named_and_nothing_changes(admin: Client, case: str) -> None:
    call, field = WRONG_FIELDS[case]
    stack = await new_stack(admin)
    before = await _record(admin, stack.id)
    with pytest.raises(errors.InvalidArgument) as raised:
        await call(admin, stack.id)
    assert field in [violation.field for violation in raised.value.violations], str(raised.value)
    assert await _record(admin, stack.id) == before


UNKNOWN: dict[str, Call] = {
    "stack": lambda c, _: c.runs.create_task("no-such-stack", "true"),
    "run": lambda c, _: c.runs.get(NO_RUN),
    "run to stop": lambda c, _: c.runs.stop(NO_RUN),
    "policy": lambda c, _: c.policies.get("no-such-policy"),
    "policy to attach": lambda c, s: c.policies.attach("no-such-policy", s),
    "pool": lambda c, _: c.pools.get("no-such-pool"),
    "pool of a new stack": lambda c, _: c.stacks.create(
        "x", image="x", tool="custom", pool_id="no-such-pool"
    ),
    "variable to unset": lambda c, s: c.stacks.unset_environment(s, names=["NO_SUCH"]),
}


@pytest.mark.parametrize("case", UNKNOWN)
async def test_what_is_not_there_is_not_found(admin: Client, case: str) -> None:
    stack = await new_stack(admin)
    with pytest.raises(errors.NotFound):
        await UNKNOWN[case](admin, stack.id)


async def test_invalid_utf8_in_a_string_is_an_invalid_argument(served: House, admin: Client) -> None:
    stack = await new_stack(admin)
    async with _raw_channel(served) as channel:
        create: Any = channel.unary_unary("/interlock.v1.RunService/CreateTask")
        bad = b"\x0a" + bytes([len(stack.id)]) + stack.id.encode() + b"\x12\x02\xff\xfe"
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await create(bad, metadata=await _bearer(served))
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "UTF-8" in str(raised.value.details())


async def test_a_message_over_the_limit_is_refused(admin: Client) -> None:
    stack = await new_stack(admin)
    with pytest.raises(errors.ResourceExhausted):
        await admin.stacks.set_environment(stack.id, variables={f"V{i}": "x" * 60_000 for i in range(30)})
    assert not (await admin.stacks.get_environment(stack.id)).variables


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ((), "NO_TOKEN"),
        ((("authorization", "Basic abc"),), "BAD_TOKEN"),
        ((("authorization", "Bearer not.a.token"),), "BAD_TOKEN"),
        (
            (("authorization", "Bearer " + jwt.encode({"sub": "key_x"}, "k" * 32, algorithm="HS256")),),
            "BAD_TOKEN",
        ),
    ],
    ids=["no token", "another scheme", "no JWT", "signed by somebody else"],
)
async def test_a_call_without_a_good_token_is_not_authenticated(
    served: House, metadata: tuple[tuple[str, str], ...], reason: str
) -> None:
    async with _raw_channel(served) as channel:
        stub = run_service_pb2_grpc.RunServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stub.GetRun(run_service_pb2.GetRunRequest(run_id=NO_RUN), metadata=metadata)
    assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert reason in str(raised.value.trailing_metadata())


async def test_a_revoked_key_stops_working_at_once(served: House, admin: Client) -> None:
    key = await admin.identity.create_key(new_id("leaver"))
    async with served.connect(key.credential) as leaver:
        await leaver.identity.get_caller()
        await admin.identity.revoke_key(key.api_key.id)
        with pytest.raises(errors.Unauthenticated):
            await leaver.identity.get_caller()


async def test_the_same_request_id_gives_the_same_run(admin: Client) -> None:
    stack = await new_stack(admin)
    first, second = await asyncio.gather(
        *(admin.runs.create_task(stack.id, "true", request_id="once") for _ in range(2))
    )
    assert first.id == second.id


async def test_the_same_request_id_with_other_content_is_refused(admin: Client) -> None:
    stack = await new_stack(admin)
    request_id = new_id("request")
    await admin.runs.create_task(stack.id, "true", request_id=request_id)
    with pytest.raises(errors.InvalidArgument, match="used before with other content"):
        await admin.runs.create_task(stack.id, "false", request_id=request_id)
    assert len([run async for run in admin.runs.list(stack_id=stack.id)]) == 1


async def test_a_page_token_of_another_query_is_refused(served: House, admin: Client) -> None:
    stack = await new_stack(admin)
    for _ in range(2):
        await admin.runs.create_task(stack.id, "true")
    async with _raw_channel(served) as channel:
        stub = run_service_pb2_grpc.RunServiceStub(channel)
        request = run_service_pb2.ListRunsRequest(stack_id=stack.id, page_size=1)
        page = await stub.ListRuns(request, metadata=await _bearer(served))
        request.page_token = page.next_page_token
        request.caller_login = "somebody"
        with pytest.raises(grpc.aio.AioRpcError, match="belongs to another query"):
            await stub.ListRuns(request, metadata=await _bearer(served))


async def test_an_output_offset_past_the_end_is_out_of_range(admin: Client) -> None:
    stack = await new_stack(admin)
    run = await admin.runs.create_task(stack.id, "true")
    await admin.runs.discard(run.id)
    with pytest.raises(errors.InterlockError, match="past the end: 0 bytes are stored"):
        async for _ in admin.runs.follow(run.id, offset=1):
            pass


async def test_a_stale_etag_changes_nothing(admin: Client) -> None:
    stack = await new_stack(admin)
    await admin.stacks.update(stack.id, description="newer")
    with pytest.raises(errors.InterlockError, match="changed since you read it"):
        await admin.stacks.update(stack.id, description="older", etag=stack.etag)
    assert (await admin.stacks.get(stack.id)).description == "newer"


async def test_every_refusal_carries_a_reason_of_the_enum(admin: Client) -> None:
    with pytest.raises(errors.NotFound) as raised:
        await admin.stacks.get("no-such-stack")
    assert raised.value.reason == "NOT_FOUND"


async def _record(client: Client, stack_id: str) -> tuple[str, int, int]:
    """All that a bad call could have changed: the stack, its runs, and how much there is on record."""
    stack = await client.stacks.get(stack_id)
    runs = len([run async for run in client.runs.list(stack_id=stack_id)])
    events = [event async for event in client.audit.list(stack_id=stack_id)]
    return stack.SerializeToString(deterministic=True).hex(), runs, len(events)


def _raw_channel(house: House) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(house.address)


async def _bearer(house: House) -> tuple[tuple[str, str], ...]:
    """Metadata with an admin's token, for calls below the SDK."""
    key_id, _, secret = house.admin_key.partition(".")
    async with _raw_channel(house) as channel:
        stub = identity_service_pb2_grpc.IdentityServiceStub(channel)
        request = identity_service_pb2.ExchangeApiKeyRequest(key_id=key_id, secret=secret)
        exchanged = await stub.ExchangeApiKey(request)
    return (("authorization", f"Bearer {exchanged.access_token}"),)
