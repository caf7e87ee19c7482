"""The synchronous face is the asynchronous one, method for method."""

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator

import pytest

import interlock
from interlock import audit, errors, identity, policies, pools, runs, slots, stacks, sync
from interlock.types import OutputChunk, Run
from interlock.v1.run_service_pb2 import (
    CreateTaskRequest,
    ListRunsRequest,
    ListRunsResponse,
    WatchRunRequest,
    WatchRunResponse,
)
from tests.unit.sdk.scripted import RUN_ID, Context, Server, finished, output

FACES = [
    (audit.Audit, sync.Audit),
    (identity.Identity, sync.Identity),
    (policies.Policies, sync.Policies),
    (pools.Pools, sync.Pools),
    (runs.Runs, sync.Runs),
    (slots.Slots, sync.Slots),
    (stacks.Stacks, sync.Stacks),
]


@pytest.mark.parametrize(("original", "derived"), FACES, ids=lambda face: f"{face.__module__}")
def test_every_method_has_its_blocking_twin(original: type, derived: type[sync.Face]) -> None:
    public = {name: method for name, method in vars(original).items() if inspect.isfunction(method)}
    names = {name for name in public if not name.startswith("_")}

    assert {name for name in vars(derived) if not name.startswith("_")} == names
    for name in names:
        is_awaited = inspect.iscoroutinefunction(public[name])
        kind = sync.Blocking if is_awaited else sync.Iterating | sync.Entering
        assert isinstance(vars(derived)[name], kind)
        assert vars(derived)[name].__doc__ == public[name].__doc__


async def test_calls_lists_and_follows_work_without_an_event_loop(server: Server) -> None:
    async def create(request: CreateTaskRequest, context: Context) -> Run:
        return Run(id=RUN_ID, command=request.command)

    async def page(request: ListRunsRequest, context: Context) -> ListRunsResponse:
        return ListRunsResponse(runs=[Run(id=RUN_ID)])

    async def watch(request: WatchRunRequest, context: Context) -> AsyncIterator[WatchRunResponse]:
        yield output(0, b"hello ")
        yield output(6, b"world")
        yield finished(11)

    server.does.create_task, server.does.list_runs, server.does.watch_run = create, page, watch

    def program() -> tuple[str, list[str], bytes]:
        with sync.connect(server.address, token="t") as client:
            run = client.runs.create_task("network", "true")
            listed = [each.id for each in client.runs.list()]
            events = client.runs.follow(run.id)
            return (
                run.command,
                listed,
                b"".join(each.data for each in events if isinstance(each, OutputChunk)),
            )

    assert await asyncio.to_thread(program) == ("true", [RUN_ID], b"hello world")


async def test_errors_are_those_of_the_tree(server: Server) -> None:
    def program() -> None:
        with sync.connect(server.address, api_key="key_1.wrong") as client:
            client.runs.get(RUN_ID)

    with pytest.raises(errors.BadCredentials):
        await asyncio.to_thread(program)


async def test_leaving_a_follow_early_ends_its_stream(server: Server) -> None:
    ended = asyncio.Event()

    async def watch(request: WatchRunRequest, context: Context) -> AsyncIterator[WatchRunResponse]:
        try:
            yield output(0, b"first")
            await asyncio.Event().wait()
        finally:
            ended.set()

    server.does.watch_run = watch

    def program() -> None:
        with sync.connect(server.address, token="t") as client:
            events = client.runs.follow(RUN_ID)
            next(events)
            events.close()  # what the end of a for loop does

    await asyncio.to_thread(program)

    await asyncio.wait_for(ended.wait(), 5)


def test_all_clients_share_one_background_thread() -> None:
    for _ in range(2):
        sync.connect("127.0.0.1:1", token="t").close()

    assert [thread.name for thread in threading.enumerate()].count("interlock.sync") == 1


def test_misconfiguration_is_raised_at_once() -> None:
    with pytest.raises(errors.Misconfigured, match="no credential"):
        sync.connect("127.0.0.1:1")


def test_the_package_offers_the_synchronous_face_without_importing_it_first() -> None:
    assert interlock.sync is sync
