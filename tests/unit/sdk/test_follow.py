"""client.runs.follow: every byte once and in order, over restarts of the server."""

import asyncio
import hashlib
from collections.abc import AsyncIterator

import grpc
import pytest

import interlock
from interlock import errors
from interlock.types import OutputChunk, Run, RunState
from interlock.v1.run_service_pb2 import GetRunRequest, WatchRunRequest, WatchRunResponse
from tests.unit.sdk.scripted import RUN_ID, Context, Server, finished, output, performing, refuse

TEXT = bytes(range(256)) * 40


def serve(server: Server, *streams: list[WatchRunResponse], then_break: bool = True) -> None:
    """Each stream in turn; all but the last break off with UNAVAILABLE."""
    left = list(streams)

    async def watch(request: WatchRunRequest, context: Context) -> AsyncIterator[WatchRunResponse]:
        for response in left.pop(0):
            yield response
        if left and then_break:
            await refuse(context, grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN", "the server is shutting down")

    server.does.watch_run = watch


async def gather(client: interlock.Client, *, offset: int = 0) -> tuple[bytes, list[Run]]:
    text, runs = b"", []
    async for event in client.runs.follow(RUN_ID, offset=offset):
        match event:
            case OutputChunk(data=data):
                text += data
            case Run() as run:
                runs.append(run)
    return text, runs


async def test_follow_yields_states_and_output_until_the_run_is_over(
    server: Server, client: interlock.Client
) -> None:
    serve(server, [performing(), output(0, b"one\n"), output(4, b"two\n"), finished(8)])

    text, runs = await gather(client)

    assert text == b"one\ntwo\n"
    assert [run.state for run in runs] == [RunState.RUN_STATE_PERFORMING, RunState.RUN_STATE_FINISHED]


async def test_follow_goes_on_at_its_byte_when_the_server_shuts_down(
    server: Server, client: interlock.Client
) -> None:
    digest = hashlib.sha256(TEXT).hexdigest()
    serve(
        server,
        [performing(), output(0, TEXT[:1000])],
        [performing(1000), output(1000, TEXT[1000:])],
        [finished(len(TEXT), digest)],
    )

    text, _ = await gather(client)

    assert text == TEXT
    assert [request.output_offset for request in server.does.watches] == [0, 1000, len(TEXT)]


async def test_follow_survives_a_server_that_is_killed_and_started_again(
    server: Server, client: interlock.Client
) -> None:
    async def watch(request: WatchRunRequest, context: Context) -> AsyncIterator[WatchRunResponse]:
        yield performing()
        yield output(request.output_offset, TEXT[request.output_offset : request.output_offset + 4000])
        if request.output_offset + 4000 < len(TEXT):
            await asyncio.Event().wait()  # until the server is stopped
        else:
            yield finished(len(TEXT))

    server.does.watch_run = watch
    text = b""
    async for event in client.runs.follow(RUN_ID):
        if isinstance(event, OutputChunk):
            text += event.data
            if len(text) < len(TEXT):
                await server.stop()
                await server.start()

    assert text == TEXT


async def test_follow_does_not_repeat_the_run_that_a_new_stream_begins_with(
    server: Server, client: interlock.Client
) -> None:
    serve(server, [performing(), output(0, b"a")], [performing(), output(1, b"b"), finished(2)])

    _, runs = await gather(client)

    assert [run.state for run in runs] == [RunState.RUN_STATE_PERFORMING, RunState.RUN_STATE_FINISHED]


@pytest.mark.parametrize("offset", [3, 5], ids=["a repetition", "a gap"])
async def test_follow_refuses_output_that_does_not_continue(
    server: Server, client: interlock.Client, offset: int
) -> None:
    serve(server, [performing(), output(0, b"1234"), output(offset, b"5678"), finished(8)])

    with pytest.raises(errors.OutputMismatch, match=f"goes on at byte {offset}, but byte 4 is next"):
        await gather(client)


async def test_follow_refuses_output_whose_digest_is_not_the_stored_one(
    server: Server, client: interlock.Client
) -> None:
    serve(server, [output(0, b"1234"), finished(4, hashlib.sha256(b"1235").hexdigest())])

    with pytest.raises(errors.OutputMismatch, match="SHA-256"):
        await gather(client)


async def test_follow_from_an_offset_gets_the_rest_only(server: Server, client: interlock.Client) -> None:
    serve(server, [performing(6), output(6, b"rest"), finished(10, hashlib.sha256(b"all of it").hexdigest())])

    text, _ = await gather(client, offset=6)

    assert text == b"rest"
    assert server.does.watches[0].output_offset == 6


async def test_follow_waits_when_the_restarted_server_stands_before_its_offset(
    server: Server, client: interlock.Client
) -> None:
    """Output may be seen before it is durable: after a crash the runner has to send it again."""
    calls = 0

    async def watch(request: WatchRunRequest, context: Context) -> AsyncIterator[WatchRunResponse]:
        nonlocal calls
        calls += 1
        if calls == 1:
            yield performing()
            yield output(0, b"12345678")
            await refuse(context, grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN", "going away")
        if calls == 2:
            await refuse(context, grpc.StatusCode.OUT_OF_RANGE, "OFFSET_PAST_END", "only 4 bytes are stored")
        yield finished(8)

    async def get(request: GetRunRequest, context: Context) -> Run:
        return Run(id=RUN_ID, state=RunState.RUN_STATE_PERFORMING)

    server.does.watch_run, server.does.get_run = watch, get

    text, _ = await gather(client)

    assert text == b"12345678"
    assert calls == 3


async def test_follow_ends_where_the_run_is_over_with_less_than_was_seen(
    server: Server, client: interlock.Client
) -> None:
    """Its runner was lost before the gate, and what was seen was not yet durable: nobody sends it again."""
    calls = 0

    async def watch(request: WatchRunRequest, context: Context) -> AsyncIterator[WatchRunResponse]:
        nonlocal calls
        calls += 1
        if calls > 1:
            await refuse(context, grpc.StatusCode.OUT_OF_RANGE, "OFFSET_PAST_END", "only 4 bytes are stored")
        yield performing()
        yield output(0, b"12345678")
        await refuse(context, grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN", "going away")

    async def get(request: GetRunRequest, context: Context) -> Run:
        return Run(id=RUN_ID, state=RunState.RUN_STATE_FAILED, output_size_bytes=4)

    server.does.watch_run, server.does.get_run = watch, get

    text, runs = await gather(client)

    assert text == b"12345678"
    assert runs[-1].state == RunState.RUN_STATE_FAILED
    assert calls == 2


async def test_an_offset_past_the_end_is_an_error_at_the_beginning(
    server: Server, client: interlock.Client
) -> None:
    async def watch(request: WatchRunRequest, context: Context) -> AsyncIterator[WatchRunResponse]:
        await refuse(context, grpc.StatusCode.OUT_OF_RANGE, "OFFSET_PAST_END", "only 4 bytes are stored")
        yield performing()

    server.does.watch_run = watch

    with pytest.raises(errors.OffsetPastEnd, match="only 4 bytes"):
        await gather(client, offset=100)


async def test_a_stream_that_ends_before_the_run_is_followed_by_another(
    server: Server, client: interlock.Client
) -> None:
    serve(server, [performing(), output(0, b"ab")], [output(2, b"c"), finished(3)], then_break=False)

    text, _ = await gather(client)

    assert text == b"abc"


async def test_follow_gives_up_when_the_server_stays_away(server: Server, client: interlock.Client) -> None:
    await server.stop()

    with pytest.raises(errors.Unavailable):
        async for _ in client.runs.follow(RUN_ID, give_up_after_s=0.2):
            pass


async def test_follow_renews_a_token_that_expired_on_the_stream(
    server: Server, client: interlock.Client
) -> None:
    async def watch(request: WatchRunRequest, context: Context) -> AsyncIterator[WatchRunResponse]:
        if request.output_offset == 0:
            yield performing()
            yield output(0, b"ab")
            await refuse(context, grpc.StatusCode.UNAUTHENTICATED, "EXPIRED_TOKEN", "the token has expired")
        yield output(2, b"c")
        yield finished(3)

    server.does.watch_run = watch

    text, _ = await gather(client)

    assert text == b"abc"
    assert server.does.tokens_seen == ["Bearer token-1", "Bearer token-2"]


async def test_wait_returns_the_run_in_its_final_state(server: Server, client: interlock.Client) -> None:
    serve(server, [performing(5)], [finished(5)])

    run = await client.runs.wait(RUN_ID)

    assert interlock.is_final(run)
    assert all(request.omit_output for request in server.does.watches)
