"""The runner's one stream to the control plane: dialled from here, kept alive, and dialled again for ever.

Says hello, reads, sends heartbeats and lets the runs speak. The reader never waits for a write: all that it
reads is handed on at once. Losing the stream changes nothing for the runs; the next one goes on from there.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NoReturn, Protocol

import grpc
import structlog

from interlock.v1.runner_service_pb2 import (
    AssignmentRef,
    ConnectRequest,
    ConnectResponse,
    FetchSourceRequest,
    Heartbeat,
    Hello,
    StorePlanRequest,
    Welcome,
)
from interlock.v1.runner_service_pb2_grpc import RunnerServiceStub
from runner.config import Config, TlsFiles
from runner.errors import PlanNotKept, SourceUnavailable, SpoolDamaged
from runner.groups import flattened

log = structlog.get_logger(__name__)

if TYPE_CHECKING:
    Stream = grpc.aio.StreamStreamCall[ConnectRequest, ConnectResponse]

Send = Callable[[ConnectRequest], Awaitable[None]]

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 15.0
# Nothing that time heals: what is wrong was said in the log, and somebody has to change it.
_REFUSED_PAUSE_S = 30.0
_WELCOME_WITHIN_S = 15.0
_SHORTEST_HEARTBEAT_S = 0.2
_FETCH_RETRY_S = 0.5
_STORE_CHUNK_BYTES = 256 << 10

_OPTIONS = [
    # Found in 30 s: a peer that is frozen or cut off without a word.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # A job carries the stack's files.
    ("grpc.max_receive_message_length", 64 << 20),
    # Each attempt is its own: no waiting time inherited from the last one.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
]

_WHAT_TO_DO = {
    grpc.StatusCode.UNAUTHENTICATED: "the pool token is not accepted: an admin makes a new one with "
    "`interlock pool token create POOL`; set it as INTERLOCK_POOL_TOKEN and start the runner again",
    grpc.StatusCode.FAILED_PRECONDITION: "install the runner of the control plane's release",
    grpc.StatusCode.INVALID_ARGUMENT: "correct the runner's configuration and start it again",
    grpc.StatusCode.ALREADY_EXISTS: "another process connected with this runner's id: was its folder copied? "
    "Give each runner an INTERLOCK_RUNNER_DIR of its own, and remove the file runner-id from the copy",
    grpc.StatusCode.UNIMPLEMENTED: "INTERLOCK_ADDRESS is not a control plane's",
    grpc.StatusCode.PERMISSION_DENIED: "the control plane does not let this runner in",
}


class Party(Protocol):
    """Who speaks on the stream. All but `speak` return at once."""

    def hello(self) -> Hello:
        """The first message; the connection adds the token."""

    def welcomed(self, welcome: Welcome) -> None: ...

    def received(self, message: ConnectResponse) -> None: ...

    async def speak(self, send: Send) -> NoReturn:
        """Sends what there is to send, as long as the stream lasts; it is cancelled with the stream."""


class _StreamEnded(Exception):
    """The stream is over and the next one is to be dialled."""


class Connection:
    def __init__(self, config: Config) -> None:
        self._config = config
        self._pause = Pause()
        self._channel: grpc.aio.Channel | None = None
        # How many replicas in a row did not answer: the next attempt is at the next one.
        self._position = 0
        self._failures = 0

    @property
    def _address(self) -> str:
        return self._config.addresses[self._position]

    @property
    def _has_tried_all(self) -> bool:
        return (self._failures + 1) % len(self._config.addresses) == 0

    def _move_on(self) -> None:
        self._failures += 1
        self._position = (self._position + 1) % len(self._config.addresses)

    async def run(self, party: Party) -> NoReturn:
        """Keeps a stream open until it is cancelled."""
        while True:
            async with open_channel(self._address, self._config.tls) as channel:
                self._channel = channel
                try:
                    # A task of its own: its group marks the task that it is in as cancelled when a stream just ends.
                    await asyncio.create_task(self._stream(channel, party), name="stream")
                except (grpc.aio.AioRpcError, _StreamEnded, TimeoutError) as error:
                    _go_on_unless_cancelled()
                    pause_s = self._after(error)
                    self._move_on()
                finally:
                    self._channel = None
            await asyncio.sleep(pause_s)

    async def fetch_source(self, assignment: AssignmentRef) -> AsyncIterator[bytes]:
        """The archive of an assignment, once, through broken connections. Raises `SourceUnavailable`."""
        given_bytes = 0
        while True:
            seen_bytes = 0
            try:
                async for chunk in self._fetch(assignment):
                    # After a cut it begins anew, with the same bytes: their digest is in the assignment.
                    new = chunk[max(given_bytes - seen_bytes, 0) :]
                    seen_bytes += len(chunk)
                    given_bytes += len(new)
                    if new:
                        yield new
                return
            except _StreamEnded as cut:
                log.warning("source.fetch_cut", run_id=assignment.run_id, reason=str(cut))
            await asyncio.sleep(_FETCH_RETRY_S)

    async def _fetch(self, assignment: AssignmentRef) -> AsyncIterator[bytes]:
        while self._channel is None:
            await asyncio.sleep(_FETCH_RETRY_S)
        call = RunnerServiceStub(self._channel).FetchSource(
            FetchSourceRequest(assignment=assignment), metadata=self._credentials
        )
        try:
            async for response in call:
                yield response.chunk
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                raise _StreamEnded(error.details()) from error
            raise SourceUnavailable(f"the stack's archive could not be fetched: {error.details()}") from error
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Not this task, but its call: grpc says so when the channel is closed.
            raise _StreamEnded("the connection was closed") from None
        finally:
            call.cancel()

    async def store_plan(self, assignment: AssignmentRef, archive: BinaryIO) -> str:
        """Sends what a plan left until the control plane has it; its digest there. Raises `PlanNotKept`."""
        while True:
            try:
                return await self._store(assignment, archive)
            except _StreamEnded as cut:
                log.warning("plan.store_cut", run_id=assignment.run_id, reason=str(cut))
            await asyncio.sleep(_FETCH_RETRY_S)

    async def _store(self, assignment: AssignmentRef, archive: BinaryIO) -> str:
        while self._channel is None:
            await asyncio.sleep(_FETCH_RETRY_S)

        async def parts() -> AsyncIterator[StorePlanRequest]:
            yield StorePlanRequest(assignment=assignment)
            await asyncio.to_thread(archive.seek, 0)
            while chunk := await asyncio.to_thread(archive.read, _STORE_CHUNK_BYTES):
                yield StorePlanRequest(chunk=chunk)

        call = RunnerServiceStub(self._channel).StorePlan(parts(), metadata=self._credentials)
        try:
            return (await call).sha256
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                raise _StreamEnded(error.details()) from error
            raise PlanNotKept(f"the control plane does not keep the plan: {error.details()}") from error
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Not this task, but its call: grpc says so when the channel is closed.
            raise _StreamEnded("the connection was closed") from None
        finally:
            call.cancel()

    @property
    def _credentials(self) -> tuple[tuple[str, str]]:
        return (("authorization", f"Bearer {self._config.pool_token.reveal()}"),)

    async def _stream(self, channel: grpc.aio.Channel, party: Party) -> NoReturn:
        stub = RunnerServiceStub(channel)
        call = stub.Connect()
        try:
            welcome = await self._greet(call, party)
            self._pause.reset()
            self._failures = 0
            log.info("runner.ready", runner_id=welcome.runner_id, pool_id=welcome.pool_id)
            await _converse(call, party, welcome)
        finally:
            call.cancel()

    async def _greet(self, call: Stream, party: Party) -> Welcome:
        hello = party.hello()
        hello.pool_token = self._config.pool_token.reveal()
        await asyncio.wait_for(call.write(ConnectRequest(hello=hello)), _WELCOME_WITHIN_S)
        while True:
            message = await asyncio.wait_for(_next_message(call), _WELCOME_WITHIN_S)
            if message.WhichOneof("message") != "welcome":
                raise _StreamEnded("the control plane did not begin with a welcome")
            party.welcomed(message.welcome)
            if not message.welcome.more:
                return message.welcome

    def _after(self, error: Exception) -> float:
        """Says what happened, and how long to wait before the next attempt."""
        if isinstance(error, grpc.aio.AioRpcError):
            hint = _WHAT_TO_DO.get(error.code())
            if hint is not None:
                log.error("runner.refused", code=error.code().name, error=error.details(), hint=hint)
                if not self._has_tried_all:
                    return _FIRST_PAUSE_S
                return _REFUSED_PAUSE_S * random.uniform(0.8, 1.2)  # noqa: S311
            reason = f"{error.code().name}: {error.details()}"
        else:
            reason = str(error) or "no welcome in time"
        pause_s = self._pause.next() if self._has_tried_all else _FIRST_PAUSE_S
        log.warning(
            "runner.disconnected",
            address=self._address,
            reason=reason,
            next_attempt_s=round(pause_s, 1),
        )
        return pause_s


async def _converse(call: Stream, party: Party, welcome: Welcome) -> NoReturn:
    one_at_a_time = asyncio.Lock()

    async def send(message: ConnectRequest) -> None:
        async with one_at_a_time:
            await call.write(message)

    cause: Exception = _StreamEnded("the stream ended")
    interval_s = max(welcome.heartbeat_interval_ms / 1000, _SHORTEST_HEARTBEAT_S)
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_read(call, party), name="read")
            tasks.create_task(_beat(send, interval_s), name="heartbeats")
            tasks.create_task(party.speak(send), name="speak")
    except* (grpc.aio.AioRpcError, _StreamEnded, asyncio.InvalidStateError) as errors:
        cause = _cause(errors)
    except* SpoolDamaged as errors:
        # No stream helps against that, and a new process does: it begins with an empty spool.
        cause = next(flattened(errors))
    raise cause


async def _read(call: Stream, party: Party) -> NoReturn:
    while True:
        message = await _next_message(call)
        party.received(message)
        if message.drain.reconnect:
            raise _StreamEnded(f"the control plane asks to dial again: {message.drain.reason}")


def _go_on_unless_cancelled() -> None:
    """A task group that is cancelled in the moment in which a stream ends raises what ended the stream (Python 3.11)."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


class Pause:
    """How long to wait between attempts: doubling, with jitter, so that not all runners come back at once."""

    def __init__(self) -> None:
        self._longest = _FIRST_PAUSE_S

    def next(self) -> float:
        longest, self._longest = self._longest, min(self._longest * 2, _LONGEST_PAUSE_S)
        return random.uniform(longest / 2, longest)  # noqa: S311  # jitter is no secret

    def reset(self) -> None:
        self._longest = _FIRST_PAUSE_S


def open_channel(address: str, tls: TlsFiles | None) -> grpc.aio.Channel:
    if tls is None:
        return grpc.aio.insecure_channel(address, options=_OPTIONS)
    credentials = grpc.ssl_channel_credentials(
        _pem(tls.ca), private_key=_pem(tls.client_key), certificate_chain=_pem(tls.client_certificate)
    )
    return grpc.aio.secure_channel(address, credentials, options=_OPTIONS)


def _pem(path: Path | None) -> bytes | None:
    return None if path is None else path.read_bytes()


async def _beat(send: Send, interval_s: float) -> NoReturn:
    while True:
        await asyncio.sleep(interval_s)
        await send(ConnectRequest(heartbeat=Heartbeat()))


async def _next_message(call: Stream) -> ConnectResponse:
    message = await call.read()
    if not isinstance(message, ConnectResponse):
        raise _StreamEnded("the control plane closed the stream")
    return message


def _cause(errors: BaseExceptionGroup[Exception]) -> Exception:
    """The error with the stream's status, if one of them has it."""
    flat = list(flattened(errors))
    return next((error for error in flat if isinstance(error, grpc.aio.AioRpcError)), flat[0])
