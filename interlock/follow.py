"""Following one run over as many streams as it takes, without a missing or repeated byte."""

import asyncio
import hashlib
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import grpc

from interlock.errors import (
    InterlockError,
    OffsetPastEnd,
    OutputMismatch,
    TokenRefused,
    Unavailable,
    from_rpc,
)
from interlock.retry import Retry
from interlock.states import is_final
from interlock.transport import Metadata, Transport
from interlock.v1 import run_service_pb2 as pb
from interlock.v1.run_pb2 import Run
from interlock.v1.run_service_pb2 import OutputChunk

if TYPE_CHECKING:
    from hashlib import _Hash

    from interlock.v1.run_service_pb2_grpc import RunServiceAsyncStub

GIVE_UP_AFTER_S = 600.0

# What a stream ends with when a server, a proxy or a network goes away, beside UNAVAILABLE with its reason.
CUT_OFF = frozenset({grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.CANCELLED})

log = logging.getLogger("interlock")


@dataclass(kw_only=True)
class Progress:
    """What was received of one run so far, and what would prove it wrong."""

    offset: int
    wants_output: bool = True
    run: Run | None = None
    _digest: "_Hash | None" = field(init=False)

    def __post_init__(self) -> None:
        # Only who reads from the first byte can compare with the digest of the whole.
        self._digest = hashlib.sha256() if self.offset == 0 and self.wants_output else None

    def take_output(self, chunk: OutputChunk) -> None:
        if chunk.offset != self.offset:
            raise OutputMismatch(f"the output goes on at byte {chunk.offset}, but byte {self.offset} is next")
        self.offset += len(chunk.data)
        if self._digest is not None:
            self._digest.update(chunk.data)

    def take_run(self, run: Run) -> bool:
        """True where it says something new: each stream begins with the run as it is."""
        is_new = run != self.run
        self.run = run
        return is_new

    def is_complete(self) -> bool:
        """The final state is there, and all output with it."""
        if self.run is None or not is_final(self.run):
            return False
        return not self.wants_output or self.offset >= self.run.output_size_bytes

    def check_digest(self) -> None:
        if self.run is None or self.offset != self.run.output_size_bytes:
            return  # bytes of a run that was abandoned meanwhile may have been seen which are not its own any more
        expected = self.run.output_sha256
        if self._digest is not None and expected and self._digest.hexdigest() != expected:
            raise OutputMismatch("the output received differs from the stored one (SHA-256)")


async def follow(
    transport: Transport,
    stub: "RunServiceAsyncStub",
    run_id: str,
    progress: Progress,
    *,
    give_up_after_s: float | None,
) -> AsyncGenerator[Run | OutputChunk]:
    """Yields what is new; opens the next stream at `progress.offset` whenever one breaks off."""
    patience = Retry(give_up_after_s=float("inf") if give_up_after_s is None else give_up_after_s)
    waits = patience.waits()
    renewed = False
    while True:
        metadata: Metadata = ()
        problem: InterlockError = Unavailable("the stream ended before the run was over")
        asked = transport.position
        try:
            metadata = await transport.metadata()
            async with aclosing(_stream(stub, run_id, progress, metadata)) as events:
                async for event in events:
                    waits, renewed = patience.waits(), False
                    yield event
        except grpc.aio.AioRpcError as error:
            problem = from_rpc(error)
            if isinstance(problem, TokenRefused) and not renewed and transport.refuse(metadata):
                renewed = True
                continue
            if not _may_resume(problem, begun=progress.run is not None):
                raise problem from error
            if isinstance(problem, OffsetPastEnd) and (run := await _run_if_over(transport, stub, run_id)):
                # Lost with its runner before the gate: what was seen and not yet durable is sent again by nobody.
                log.warning(
                    "%s is over with %d bytes of output, %d were seen",
                    run_id, run.output_size_bytes, progress.offset,
                )  # fmt: skip
                if progress.take_run(run):
                    yield run
                return
        if progress.is_complete():
            progress.check_digest()
            return
        transport.move_on(asked)
        wait_s = next(waits, None)
        if wait_s is None:
            raise problem
        log.warning("going on with %s from byte %d: %s", run_id, progress.offset, problem)
        await asyncio.sleep(wait_s)


async def _stream(
    stub: "RunServiceAsyncStub", run_id: str, progress: Progress, metadata: Metadata
) -> AsyncGenerator[Run | OutputChunk]:
    request = pb.WatchRunRequest(
        run_id=run_id, output_offset=progress.offset, omit_output=not progress.wants_output
    )
    call = stub.WatchRun(request, metadata=metadata)
    try:
        async for response in call:
            if response.HasField("output"):
                progress.take_output(response.output)
                yield response.output
            elif progress.take_run(response.run):
                yield response.run
    finally:
        call.cancel()


async def _run_if_over(transport: Transport, stub: "RunServiceAsyncStub", run_id: str) -> Run | None:
    try:
        run = await transport.call(stub.GetRun, pb.GetRunRequest(run_id=run_id))
    except Unavailable:
        return None
    return run if is_final(run) else None


def _may_resume(problem: InterlockError, *, begun: bool) -> bool:
    """Whether the server is away, and not against it.

    Output may be seen shortly before it is durable: after a crash the server can stand before our offset
    until the runner has sent those bytes again.
    """
    if isinstance(problem, Unavailable):
        return True
    if not begun:
        return False
    return isinstance(problem, OffsetPastEnd) or (problem.code in CUT_OFF and not problem.reason)
