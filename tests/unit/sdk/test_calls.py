"""Unary calls: retry with one request_id, tokens, errors as the tree, pages."""

import asyncio
from datetime import timedelta

import grpc
import pytest
from google.rpc import error_details_pb2

import interlock
from interlock import errors
from interlock.v1 import errors_pb2
from interlock.v1.caller_pb2 import Caller
from interlock.v1.run_pb2 import RUN_STATE_QUEUED, Run
from interlock.v1.run_service_pb2 import CreateTaskRequest, ListRunsRequest, ListRunsResponse
from tests.unit.sdk.scripted import RUN_ID, Context, Server, refuse


async def queued(request: CreateTaskRequest, context: Context) -> Run:
    return Run(id=RUN_ID, state=RUN_STATE_QUEUED, command=request.command)


async def test_a_create_is_retried_with_the_same_request_id(server: Server, client: interlock.Client) -> None:
    async def away_twice(request: CreateTaskRequest, context: Context) -> Run:
        if len(server.does.tasks) < 3:
            await refuse(context, grpc.StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE", "no database")
        return await queued(request, context)

    server.does.create_task = away_twice

    run = await client.runs.create_task("network", "true")

    assert run.id == RUN_ID
    ids = {request.request_id for request in server.does.tasks}
    assert len(server.does.tasks) == 3
    assert len(ids) == 1
    assert ids != {""}


async def test_two_creates_have_two_request_ids(server: Server, client: interlock.Client) -> None:
    server.does.create_task = queued

    await client.runs.create_task("network", "true")
    await client.runs.create_task("network", "true")

    assert len({request.request_id for request in server.does.tasks}) == 2


async def test_the_callers_own_request_id_is_kept(server: Server, client: interlock.Client) -> None:
    server.does.create_task = queued

    await client.runs.create_task("network", "true", request_id="deploy-7")

    assert [request.request_id for request in server.does.tasks] == ["deploy-7"]


async def test_a_call_waits_for_a_server_that_is_being_restarted(
    server: Server, client: interlock.Client
) -> None:
    server.does.create_task = queued
    await client.runs.create_task("network", "true")
    await server.stop()

    call = asyncio.create_task(client.runs.create_task("network", "true"))
    await asyncio.sleep(0)
    await server.start()

    assert (await call).id == RUN_ID


async def test_a_call_gives_up_within_its_bound(server: Server) -> None:
    await server.stop()
    retry = interlock.Retry(first_wait_s=0.01, give_up_after_s=0.2)

    async with interlock.connect(server.address, token="t", retry=retry) as client:
        with pytest.raises(errors.Unavailable):
            await client.runs.create_task("network", "true")


async def test_what_is_no_outage_is_not_retried(server: Server, client: interlock.Client) -> None:
    async def internal(request: CreateTaskRequest, context: Context) -> Run:
        await refuse(context, grpc.StatusCode.INTERNAL, "INTERNAL", "a fault")

    server.does.create_task = internal

    with pytest.raises(errors.Internal):
        await client.runs.create_task("network", "true")
    assert len(server.does.tasks) == 1


async def test_calls_share_one_exchange_of_the_api_key(server: Server, client: interlock.Client) -> None:
    server.does.create_task = queued

    await asyncio.gather(*(client.runs.create_task("network", "true") for _ in range(10)))

    assert server.does.exchanges == 1
    assert set(server.does.tokens_seen) == {"Bearer token-1"}


async def test_a_token_is_renewed_before_it_expires(
    server: Server, client: interlock.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.does.create_task = queued
    server.does.token_life = timedelta(seconds=100)
    now_s = 1000.0
    monkeypatch.setattr("interlock.tokens.time.monotonic", lambda: now_s)
    await client.runs.create_task("network", "true")

    now_s += 75
    await client.runs.create_task("network", "true")
    now_s += 10
    await client.runs.create_task("network", "true")

    assert server.does.tokens_seen == ["Bearer token-1", "Bearer token-1", "Bearer token-2"]


async def test_a_token_that_the_server_calls_expired_is_renewed_once(
    server: Server, client: interlock.Client
) -> None:
    async def always_expired(request: CreateTaskRequest, context: Context) -> Run:
        await refuse(context, grpc.StatusCode.UNAUTHENTICATED, "EXPIRED_TOKEN", "the token has expired")

    server.does.create_task = always_expired

    with pytest.raises(errors.TokenExpired):
        await client.runs.create_task("network", "true")
    assert server.does.tokens_seen == ["Bearer token-1", "Bearer token-2"]


async def test_a_fixed_token_is_not_renewed(server: Server) -> None:
    async def expired(request: CreateTaskRequest, context: Context) -> Run:
        await refuse(context, grpc.StatusCode.UNAUTHENTICATED, "EXPIRED_TOKEN", "the token has expired")

    server.does.create_task = expired

    async with interlock.connect(server.address, token="mine") as client:
        with pytest.raises(errors.TokenExpired):
            await client.runs.create_task("network", "true")
    assert server.does.tokens_seen == ["Bearer mine"]


async def test_a_wrong_api_key_is_bad_credentials(server: Server) -> None:
    async with interlock.connect(server.address, api_key="key_1.wrong") as client:
        with pytest.raises(errors.BadCredentials, match="no such key"):
            await client.runs.create_task("network", "true")


async def test_a_denied_task_says_what_the_policies_said(server: Server, client: interlock.Client) -> None:
    denied = errors_pb2.TaskDenied(messages=["no destroy"], decision_id="dec_1", policies=["deny-destroy"])

    async def deny(request: CreateTaskRequest, context: Context) -> Run:
        await refuse(context, grpc.StatusCode.PERMISSION_DENIED, "TASK_DENIED", "denied: no destroy", denied)

    server.does.create_task = deny

    with pytest.raises(errors.TaskDenied) as caught:
        await client.runs.create_task("network", "terraform destroy")

    assert isinstance(caught.value, errors.PermissionDenied)
    assert str(caught.value) == "denied: no destroy"
    assert caught.value.messages == ("no destroy",)
    assert caught.value.policies == ("deny-destroy",)
    assert caught.value.decision_id == "dec_1"


async def test_a_locked_stack_says_who_holds_it(server: Server, client: interlock.Client) -> None:
    locked = errors_pb2.StackLocked(stack_id="network", owner=Caller(login="ada"), note="migration")

    async def lock(request: CreateTaskRequest, context: Context) -> Run:
        await refuse(context, grpc.StatusCode.FAILED_PRECONDITION, "STACK_LOCKED", "ada holds it", locked)

    server.does.create_task = lock

    with pytest.raises(errors.StackLocked) as caught:
        await client.runs.create_task("network", "true")

    assert caught.value.owner.login == "ada"
    assert caught.value.note == "migration"


async def test_an_invalid_field_is_named(server: Server, client: interlock.Client) -> None:
    violation = error_details_pb2.BadRequest.FieldViolation(field="command", description="must not be blank")

    async def refuse_field(request: CreateTaskRequest, context: Context) -> Run:
        bad_request = error_details_pb2.BadRequest(field_violations=[violation])
        await refuse(context, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "blank", bad_request)

    server.does.create_task = refuse_field

    with pytest.raises(errors.InvalidArgument) as caught:
        await client.runs.create_task("network", " ")

    assert caught.value.violations == (errors.Violation("command", "must not be blank"),)


async def test_an_error_without_details_keeps_its_code(server: Server, client: interlock.Client) -> None:
    async def plain(request: CreateTaskRequest, context: Context) -> Run:
        await context.abort(grpc.StatusCode.DATA_LOSS, "by a proxy")
        raise AssertionError

    server.does.create_task = plain

    with pytest.raises(errors.InterlockError, match="by a proxy") as caught:
        await client.runs.create_task("network", "true")

    assert caught.value.code is grpc.StatusCode.DATA_LOSS
    assert caught.value.reason == ""


async def test_a_list_reads_page_after_page_up_to_its_limit(server: Server, client: interlock.Client) -> None:
    async def page(request: ListRunsRequest, context: Context) -> ListRunsResponse:
        first = int(request.page_token or 0)
        size = min(request.page_size, 2)
        runs = [Run(command=str(number)) for number in range(first, first + size)]
        return ListRunsResponse(runs=runs, next_page_token=str(first + size))

    server.does.list_runs = page

    commands = [run.command async for run in client.runs.list(stack_id="network", limit=5)]

    assert commands == ["0", "1", "2", "3", "4"]
    assert [request.page_size for request in server.does.lists] == [5, 3, 1]


async def test_a_list_ends_where_there_is_no_next_page(server: Server, client: interlock.Client) -> None:
    async def page(request: ListRunsRequest, context: Context) -> ListRunsResponse:
        if request.page_token:
            return ListRunsResponse(runs=[Run(command="last")])
        return ListRunsResponse(next_page_token="2")  # an empty page is not the end

    server.does.list_runs = page

    assert [run.command async for run in client.runs.list()] == ["last"]
