"""`client.slots`: a stack's slot for what does not run in Interlock, and must not run beside anything there either."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from datetime import timedelta
from types import TracebackType
from typing import Final, Self

import grpc

from interlock.errors import (
    FencedOut,
    HoldLost,
    InterlockError,
    Misconfigured,
    NotFound,
    TokenRefused,
    Unavailable,
    WrongState,
    from_rpc,
)
from interlock.follow import CUT_OFF
from interlock.request_ids import new_request_id
from interlock.retry import Retry
from interlock.states import is_final
from interlock.times import duration
from interlock.transport import Metadata, Transport
from interlock.v1 import slot_service_pb2 as pb
from interlock.v1.run_pb2 import RUN_STATE_HELD, RUN_STATE_READY, Run
from interlock.v1.slot_service_pb2_grpc import SlotServiceStub

DEFAULT_LEASE_S: Final = 60.0
# A place in the queue is kept so long for a client that was cut off; after that, trying again is in vain.
_PATIENCE: Final = Retry(give_up_after_s=120.0)
_RENEWALS_PER_LEASE: Final = 3
# A renewal is not given up sooner, however short the lease.
_SHORTEST_ANSWER_S: Final = 2.0
# Somebody who gives up waiting does not wait long to say so; the control plane notices by itself a little later.
_GOODBYE_S: Final = 5.0

log = logging.getLogger("interlock")


class Slots:
    """Slots of the stacks that the caller may write to."""

    def __init__(self, transport: Transport, channel: grpc.aio.Channel) -> None:
        self._transport = transport
        self._stub = SlotServiceStub(channel)

    def hold(
        self,
        stack_id: str,
        *,
        purpose: str = "",
        lease_s: float = DEFAULT_LEASE_S,
        release_on_expiry: bool = False,
        queue_timeout: timedelta | None = None,
        request_id: str | None = None,
        on_change: Callable[[Run], object] = lambda _run: None,
        on_trouble: Callable[[InterlockError | None], object] = lambda _trouble: None,
    ) -> "HeldSlot":
        """`async with client.slots.hold("network") as held:` waits for the stack's slot, has it for the block, renews it
        meanwhile, and lets go afterwards.

        While it waits, `on_change` is called with the run and its `waiting`. Where a renewal fails, `on_trouble` is
        called with the error, and with None once one succeeds again; the block goes on in any case. If the hold was
        taken away meanwhile, leaving the block raises HoldLost. A hold whose lease ends stays the holder until you or an
        admin let go, unless you say `release_on_expiry`.

        Entering raises StackLocked, PermissionDenied, NotFound, PolicyFailed, QueueFull; and HoldLost where somebody
        took it out of the queue, or the slot had not come to it within `queue_timeout`.
        """
        request = pb.AcquireSlotRequest(
            stack_id=stack_id,
            purpose=purpose,
            lease=duration(timedelta(seconds=lease_s)),
            release_on_expiry=release_on_expiry,
            queue_timeout=duration(queue_timeout),
            request_id=request_id or new_request_id(),
        )
        return HeldSlot(self, request, on_change, on_trouble)

    async def acquire(
        self,
        stack_id: str,
        *,
        purpose: str = "",
        lease_s: float = DEFAULT_LEASE_S,
        release_on_expiry: bool = False,
        queue_timeout: timedelta | None = None,
        request_id: str | None = None,
    ) -> AsyncGenerator[Run]:
        """The hold as it waits, and after each change; at last as READY, with its `fencing_token`: `renew` it within 15 s
        to have the slot. Restarts of the server are bridged. Whoever stops iterating leaves the queue.

        `hold` does all this and more.
        """
        request = pb.AcquireSlotRequest(
            stack_id=stack_id,
            purpose=purpose,
            lease=duration(timedelta(seconds=lease_s)),
            release_on_expiry=release_on_expiry,
            queue_timeout=duration(queue_timeout),
            request_id=request_id or new_request_id(),
        )
        async with aclosing(self._wait(request)) as runs:
            async for run in runs:
                yield run

    async def renew(self, run_id: str, fencing_token: int) -> Run:
        """Confirms an offered slot, or renews a held one. Raises WrongState where it is over, FencedOut, NotFound."""
        request = pb.RenewSlotRequest(run_id=run_id, fencing_token=fencing_token)
        return await self._transport.call(self._stub.RenewSlot, request)

    async def release(
        self, run_id: str, *, fencing_token: int = 0, reason: str = "", force: bool = False
    ) -> Run:
        """Lets go of a hold, or of its place in the queue. Letting go of another's is for admins, with a reason, and
        with `force` where it has not expired. Raises PermissionDenied, WrongState, FencedOut, InvalidArgument."""
        request = pb.ReleaseSlotRequest(
            run_id=run_id, fencing_token=fencing_token, reason=reason, force=force
        )
        return await self._transport.call(self._stub.ReleaseSlot, request)

    async def _wait(self, request: pb.AcquireSlotRequest) -> AsyncGenerator[Run]:
        """Yields what is new, until the slot is offered or the hold is over; over as many streams as it takes."""
        waits, renewed = _PATIENCE.waits(), False
        last: Run | None = None
        while True:
            metadata: Metadata = ()
            problem: InterlockError = Unavailable("the stream ended before the slot was offered")
            asked = self._transport.position
            try:
                metadata = await self._transport.metadata()
                call = self._stub.AcquireSlot(request, metadata=metadata)
                try:
                    async for response in call:
                        waits, renewed = _PATIENCE.waits(), False
                        if response.run != last:
                            last = response.run
                            yield last
                        if last.state in {RUN_STATE_READY, RUN_STATE_HELD} or is_final(last):
                            return
                finally:
                    call.cancel()
            except grpc.aio.AioRpcError as error:
                problem = from_rpc(error)
                if isinstance(problem, TokenRefused) and not renewed and self._transport.refuse(metadata):
                    renewed = True
                    continue
                is_away = isinstance(problem, Unavailable) or (
                    last is not None and problem.code in CUT_OFF and not problem.reason
                )
                if not is_away:
                    raise problem from error
            self._transport.move_on(asked)
            wait_s = next(waits, None)
            if wait_s is None:
                raise problem
            log.warning("still waiting for the slot of %s: %s", request.stack_id, problem)
            await asyncio.sleep(wait_s)


class HeldSlot:
    """A slot for the time of a block. To be entered once."""

    def __init__(
        self,
        slots: Slots,
        request: pb.AcquireSlotRequest,
        on_change: Callable[[Run], object],
        on_trouble: Callable[[InterlockError | None], object],
    ) -> None:
        self._slots = slots
        self._request = request
        self._on_change = on_change
        self._on_trouble = on_trouble
        self._lease_s: float = request.lease.ToTimedelta().total_seconds()
        self._renewing: asyncio.Task[None] | None = None
        self._good_until_s = 0.0
        self.run = Run()
        # Why the newest renewal failed; None where it did not.
        self.trouble: InterlockError | None = None
        # Set once the control plane has said that the hold is over: the slot may be another's.
        self.lost: HoldLost | None = None

    @property
    def run_id(self) -> str:
        return self.run.id

    @property
    def fencing_token(self) -> int:
        """Grows with each taking of this stack's slot: hand it on to what can refuse an older one."""
        return self.run.fencing_token

    @property
    def is_sure(self) -> bool:
        """The slot is held for certain. False: the lease may have ended; only `release_on_expiry` frees it then."""
        return self.lost is None and time.monotonic() < self._good_until_s

    async def __aenter__(self) -> Self:
        try:
            async with aclosing(self._slots._wait(self._request)) as runs:  # noqa: SLF001  # one module
                async for run in runs:
                    self.run = run
                    self._on_change(run)
            if is_final(self.run):
                raise HoldLost(f"the slot was not to be had: {self.run.id} ended: {self.run.state_reason}")
            await self._renew()
        except (WrongState, FencedOut) as error:
            raise HoldLost(f"the slot was offered, and not there any more: {error}") from error
        except BaseException:
            await self._say_goodbye()
            raise
        self._on_change(self.run)
        self._renewing = asyncio.create_task(self._keep_renewing())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop_renewing()
        try:
            run = await self._slots.release(self.run_id, fencing_token=self.fencing_token)
        except InterlockError as problem:
            if error is None:
                raise
            log.warning("the hold %s was not let go of: %s", self.run_id, problem)
            return
        self.run = run
        if run.failure:
            self._lose(f"{run.id} was over before it was let go of: {run.state_reason}")
        if self.lost is not None and error is None:
            raise self.lost

    async def _stop_renewing(self) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait([self._renewing])

    async def _keep_renewing(self) -> None:
        while self.lost is None:
            await asyncio.sleep(self._lease_s / _RENEWALS_PER_LEASE)
            try:
                await self._renew()
            except (WrongState, FencedOut, NotFound) as error:
                self.trouble = error
                self._lose(str(error))
                self._tell()
            except InterlockError as error:
                self.trouble = error
                self._tell()
            except grpc.aio.UsageError:
                self.trouble = Misconfigured(
                    "the client was closed while it held the slot; nobody renews it any more"
                )
                self._tell()
                return
            else:
                if self.trouble is not None:
                    self.trouble = None
                    self._tell()

    def _tell(self) -> None:
        try:
            self._on_trouble(self.trouble)
        # A boundary: what the caller's own function raises must not end the renewing.
        except Exception:
            log.exception("on_trouble raised")

    async def _renew(self) -> None:
        """The lease counts from before the call: it cannot end earlier than this side believes."""
        began_s = time.monotonic()
        within_s = max(self._lease_s / _RENEWALS_PER_LEASE, _SHORTEST_ANSWER_S)
        try:
            async with asyncio.timeout(within_s):
                self.run = await self._slots.renew(self.run_id, self.run.fencing_token)
        except TimeoutError as error:
            raise Unavailable(f"the control plane did not answer for {within_s:.0f} s") from error
        self._good_until_s = began_s + self._lease_s

    async def _say_goodbye(self) -> None:
        if not self.run_id or is_final(self.run):
            return
        # Where it is in vain, the control plane finds that nobody waits or confirms.
        with suppress(InterlockError, TimeoutError):
            async with asyncio.timeout(_GOODBYE_S):
                await self._slots.release(self.run_id)

    def _lose(self, why: str) -> None:
        if self.lost is None:
            self.lost = HoldLost(f"the slot of {self._request.stack_id} is not held any more: {why}")
