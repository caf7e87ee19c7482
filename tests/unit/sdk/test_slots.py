"""Holding a slot as a client does it: waiting over broken streams, renewing, and never being silent about trouble."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

import interlock
from interlock import errors
from interlock.v1.run_pb2 import (
    RUN_FAILURE_HOLD_EXPIRED,
    RUN_STATE_DISCARDED,
    RUN_STATE_FAILED,
    RUN_STATE_FINISHED,
    RUN_STATE_HELD,
    RUN_STATE_QUEUED,
    RUN_STATE_READY,
    Run,
    RunState,
)
from interlock.v1.slot_service_pb2 import (
    AcquireSlotRequest,
    AcquireSlotResponse,
    ReleaseSlotRequest,
    RenewSlotRequest,
)
from tests.unit.sdk.scripted import RUN_ID, Context, Server, refuse

TOKEN = 7
# Renewed every 20 ms.
LEASE_S = 0.06


def run(state: RunState.ValueType, **fields: object) -> Run:
    return Run(id=RUN_ID, stack_id="network", state=state, fencing_token=TOKEN, **fields)  # type: ignore[arg-type]


async def lend(request: AcquireSlotRequest, context: Context) -> AsyncIterator[AcquireSlotResponse]:
    yield AcquireSlotResponse(run=run(RUN_STATE_QUEUED))
    yield AcquireSlotResponse(run=run(RUN_STATE_READY))


async def queue(request: AcquireSlotRequest, context: Context) -> AsyncIterator[AcquireSlotResponse]:
    yield AcquireSlotResponse(run=run(RUN_STATE_QUEUED))
    await asyncio.Event().wait()


async def renew(request: RenewSlotRequest, context: Context) -> Run:
    return run(RUN_STATE_HELD)


async def release(request: ReleaseSlotRequest, context: Context) -> Run:
    return run(RUN_STATE_FINISHED)


@pytest.fixture(autouse=True)
def obliging(server: Server) -> None:
    server.does.acquire_slot, server.does.renew_slot, server.does.release_slot = lend, renew, release


async def test_a_slot_is_confirmed_before_the_block_renewed_in_it_and_let_go_of_after_it(
    server: Server, client: interlock.Client
) -> None:
    async with client.slots.hold("network", lease_s=LEASE_S) as held:
        assert (held.fencing_token, held.is_sure) == (TOKEN, True)
        while len(server.does.renewals) < 3:
            await asyncio.sleep(0)
    assert {renewal.fencing_token for renewal in server.does.renewals} == {TOKEN}
    [released] = server.does.releases
    assert (released.run_id, released.fencing_token) == (RUN_ID, TOKEN)


async def test_waiting_goes_on_over_a_broken_stream_under_the_same_request_id(
    server: Server, client: interlock.Client
) -> None:
    async def first(request: AcquireSlotRequest, context: Context) -> AsyncIterator[AcquireSlotResponse]:
        server.does.acquire_slot = lend
        yield AcquireSlotResponse(run=run(RUN_STATE_QUEUED))
        await refuse(context, grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN", "come again")

    server.does.acquire_slot = first
    states: list[int] = []
    async with client.slots.hold("network", on_change=lambda run: states.append(run.state)):
        pass
    assert states == [RUN_STATE_QUEUED, RUN_STATE_READY, RUN_STATE_HELD]
    one, two = server.does.acquisitions
    assert one == two
    assert one.request_id


async def test_who_gives_up_waiting_says_so(server: Server, client: interlock.Client) -> None:
    server.does.acquire_slot = queue
    queued = asyncio.Event()
    entering = asyncio.create_task(
        client.slots.hold("network", on_change=lambda _run: queued.set()).__aenter__()
    )
    await queued.wait()
    entering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await entering
    assert [each.run_id for each in server.does.releases] == [RUN_ID]
    assert not server.does.renewals


async def test_a_place_in_the_queue_that_is_gone_is_an_error(
    server: Server, client: interlock.Client
) -> None:
    async def gone(request: AcquireSlotRequest, context: Context) -> AsyncIterator[AcquireSlotResponse]:
        yield AcquireSlotResponse(run=run(RUN_STATE_DISCARDED, state_reason="discarded by ada"))

    server.does.acquire_slot = gone
    with pytest.raises(errors.HoldLost, match="discarded by ada"):
        await client.slots.hold("network").__aenter__()


async def test_trouble_is_told_and_also_that_it_is_over(server: Server, client: interlock.Client) -> None:
    told = asyncio.Queue[errors.InterlockError | None]()

    async def refused(request: RenewSlotRequest, context: Context) -> Run:
        server.does.renew_slot = renew
        await refuse(context, grpc.StatusCode.FAILED_PRECONDITION, "POLICY_FAILED", "a fault")

    async with client.slots.hold("network", lease_s=LEASE_S, on_trouble=told.put_nowait) as held:
        server.does.renew_slot = refused
        assert isinstance(await told.get(), errors.PolicyFailed)
        assert await told.get() is None
        assert held.trouble is None


async def test_what_a_callback_raises_does_not_end_the_renewing(
    server: Server, client: interlock.Client
) -> None:
    async def refused(request: RenewSlotRequest, context: Context) -> Run:
        server.does.renew_slot = renew
        await refuse(context, grpc.StatusCode.FAILED_PRECONDITION, "POLICY_FAILED", "a fault")

    def raises(_trouble: errors.InterlockError | None) -> None:
        raise OSError("the terminal is gone")

    async with client.slots.hold("network", lease_s=LEASE_S, on_trouble=raises):
        server.does.renew_slot = refused
        before = len(server.does.renewals)
        while len(server.does.renewals) < before + 3:
            await asyncio.sleep(0)


async def test_a_slot_that_was_lost_is_told_at_once_and_raised_at_the_end_of_the_block(
    server: Server, client: interlock.Client
) -> None:
    told = asyncio.Queue[errors.InterlockError | None]()

    async def over(request: RenewSlotRequest, context: Context) -> Run:
        await refuse(context, grpc.StatusCode.FAILED_PRECONDITION, "WRONG_STATE", "it expired")

    async def released(request: ReleaseSlotRequest, context: Context) -> Run:
        return run(RUN_STATE_FAILED, failure=RUN_FAILURE_HOLD_EXPIRED, state_reason="it expired")

    hold = client.slots.hold("network", lease_s=LEASE_S, on_trouble=told.put_nowait)
    held = await hold.__aenter__()
    server.does.renew_slot, server.does.release_slot = over, released
    assert isinstance(await told.get(), errors.WrongState)
    assert not held.is_sure
    with pytest.raises(errors.HoldLost, match="it expired"):
        await hold.__aexit__(None, None, None)


async def test_the_error_of_the_block_is_not_hidden_by_one_of_letting_go(
    server: Server, client: interlock.Client
) -> None:
    async def refused(request: ReleaseSlotRequest, context: Context) -> Run:
        await refuse(context, grpc.StatusCode.FAILED_PRECONDITION, "FENCED_OUT", "another token")

    server.does.release_slot = refused
    with pytest.raises(ZeroDivisionError):
        async with client.slots.hold("network"):
            raise ZeroDivisionError
    with pytest.raises(errors.FencedOut):
        async with client.slots.hold("network"):
            pass


async def test_a_client_that_is_closed_under_its_hold_says_that_nobody_renews_it(server: Server) -> None:
    told = asyncio.Queue[errors.InterlockError | None]()
    async with interlock.connect(server.address, token="t") as client:
        await client.slots.hold("network", lease_s=LEASE_S, on_trouble=told.put_nowait).__aenter__()
    assert isinstance(await told.get(), errors.Misconfigured)
