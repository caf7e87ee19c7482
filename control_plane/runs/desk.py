"""One assignment's side of a runner's stream: takes its messages in order, off the stream's reader, so that
a transaction for one run never holds up the output of another."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from control_plane import errors
from control_plane.pools.connections import Connections, HeldRun, RunnerConnection
from control_plane.replicas.registry import Registry
from control_plane.runs import late, output_parts, progress, reach
from control_plane.runs.errors import FencedOut, OutputMismatch
from control_plane.runs.feeds import Feeds
from control_plane.runs.notices import Notices
from control_plane.storage.database import Database
from control_plane.storage.outputs import OutputGap, Outputs, StoredOutput, Writer, WriterFenced
from interlock.v1 import run_pb2
from interlock.v1 import runner_service_pb2 as rpc

# Messages of one run that wait for their turn; the stream is not read further while they do.
_MAX_WAITING = 64
_RETRY_S = 1.0

log = structlog.get_logger(__name__)


class Desks:
    """What every desk needs."""

    def __init__(
        self,
        db: Database,
        outputs: Outputs,
        connections: Connections,
        feeds: Feeds,
        notices: Notices,
        replicas: Registry,
    ) -> None:
        self.db = db
        self.outputs = outputs
        self.connections = connections
        self.feeds = feeds
        self.notices = notices
        self.replicas = replicas


class Desk:
    """Messages of one assignment, on one stream."""

    def __init__(self, desks: Desks, runner: RunnerConnection, ref: rpc.AssignmentRef, held: HeldRun) -> None:
        self._desks = desks
        self._runner = runner
        self._ref = ref
        self._writer = Writer(ref.assignment_id, ref.fencing_token)
        self._stack_id = held.stack_id
        # The runner counts from here.
        self._start = held.output_start
        self._waiting: asyncio.Queue[rpc.ConnectRequest] = asyncio.Queue(_MAX_WAITING)
        # The run was abandoned: what comes is evidence, and moves nothing.
        self._is_late = False

    async def put(self, message: rpc.ConnectRequest) -> None:
        await self._waiting.put(message)

    def close(self) -> None:
        """Nobody serves it any more: what waits is dropped, so that the stream's reader is not held up by it."""
        while not self._waiting.empty():
            self._waiting.get_nowait()

    async def serve(self) -> None:
        """Answers until the result is recorded, or cancelled."""
        output = await self._desks.outputs.open(self._ref.run_id, self._writer)
        output.on_durable = self._acknowledge
        is_over = False
        while not is_over:
            message = await self._waiting.get()
            try:
                is_over = await self._take_in_time_or_late(message)
            except FencedOut as error:
                self._reject(error, release=True)
                if output.writer == self._writer:
                    self._desks.outputs.leave(self._ref.run_id)
                return
            except (OutputMismatch, errors.DiskFull, errors.Unavailable) as error:
                self._reject(error, release=False)

    async def _take_in_time_or_late(self, message: rpc.ConnectRequest) -> bool:
        if not self._is_late:
            try:
                return await self._take(message)
            except FencedOut:
                await self._write(self._returned_late)
                self._is_late = True
        return await self._take_late(message)

    async def _take_late(self, message: rpc.ConnectRequest) -> bool:
        match message.WhichOneof("message"):
            case "output":
                await self._append(message.output)
            case "gate":
                refusal = "the run was abandoned before its command began; it will not be performed"
                answer = rpc.GateAnswer(assignment=self._ref, go=False, reason=refusal)
                self._runner.send(rpc.ConnectResponse(gate=answer))
            case "result":
                return await self._result(message.result)
        return False

    async def _returned_late(self) -> None:
        await self._desks.db.write(lambda tx: late.returned(tx, self._ref, self._runner.runner_id))

    async def _take(self, message: rpc.ConnectRequest) -> bool:
        match message.WhichOneof("message"):
            case "output":
                await self._append(message.output)
            case "declined":
                await self._write(self._declined)
                return True
            case "accepted":
                await self._write(self._accepted)
            case "phase" if message.phase.phase == run_pb2.RUN_STATE_INITIALIZING:
                await self._write(self._initializing)
            case "phase" if message.phase.phase == run_pb2.RUN_STATE_PLANNING:
                await self._write(self._planning)
            case "phase":
                await self._write(self._accepted)
            case "gate":
                await self._write(self._gate)
            case "result":
                return await self._result(message.result)
        return False

    async def _append(self, report: rpc.OutputReport) -> None:
        try:
            await self._desks.outputs.make_room(self._ref.run_id, len(report.data))
            if await self._desks.outputs.append(self._ref.run_id, self._start + report.offset, report.data):
                self._desks.feeds.output_grew(self._ref.run_id)
        except OutputGap as error:
            raise OutputMismatch(
                f"output of {self._ref.run_id}: {error}; nothing was stored, go on from byte {self._stored_bytes}"
            ) from error
        except WriterFenced as error:
            raise self._fenced_out() from error

    def _fenced_out(self) -> FencedOut:
        return FencedOut(self._ref.run_id, self._ref.assignment_id)

    async def _write(self, step: Callable[[], Awaitable[None]]) -> None:
        """Repeats a step until the database answers: a report of a runner is never dropped."""
        while True:
            try:
                return await step()
            except errors.DatabaseUnavailable as error:
                log.error("runner.report_waits", run_id=self._ref.run_id, error=str(error), retry_s=_RETRY_S)
                await asyncio.sleep(_RETRY_S)

    async def _declined(self) -> None:
        await self._desks.db.write(lambda tx: reach.decline(tx, self._ref, self._runner.runner_id))
        self._desks.outputs.release(self._ref.run_id)
        self._desks.notices.run_moved(self._ref.run_id)
        self._desks.notices.queue_changed(self._stack_id)
        self._desks.connections.freed(self._runner, self._ref.assignment_id)

    async def _accepted(self) -> None:
        await self._desks.db.write(lambda tx: progress.accepted(tx, self._ref, self._runner.runner_id))
        self._desks.notices.run_moved(self._ref.run_id)

    async def _initializing(self) -> None:
        await self._desks.db.write(lambda tx: progress.initializing(tx, self._ref, self._runner.runner_id))
        self._desks.notices.run_moved(self._ref.run_id)

    async def _planning(self) -> None:
        await self._desks.db.write(lambda tx: progress.planning(tx, self._ref, self._runner.runner_id))
        self._desks.notices.run_moved(self._ref.run_id)

    async def _gate(self) -> None:
        gate = await self._desks.db.write(lambda tx: progress.ask_gate(tx, self._ref, self._runner.runner_id))
        answer = rpc.GateAnswer(assignment=self._ref, go=gate.go, reason=gate.reason)
        self._runner.send(rpc.ConnectResponse(gate=answer))
        if gate.moved:
            output = self._desks.outputs.opened(self._ref.run_id)
            if output is not None:
                output.gate_offset = output.size_bytes
            log.info("run.gate_opened", run_id=self._ref.run_id, runner_id=self._runner.runner_id)
            self._desks.notices.run_moved(self._ref.run_id)

    async def _result(self, report: rpc.RunResult) -> bool:
        outputs = self._desks.outputs
        try:
            await outputs.flush(self._ref.run_id)
        except WriterFenced as error:
            raise self._fenced_out() from error
        output = await outputs.open(self._ref.run_id)
        stored = StoredOutput(output.durable_bytes, output.durable_sha256)
        size_bytes = stored.size_bytes - self._start
        sha256 = await output_parts.sha256_from(outputs, self._ref.run_id, self._start, stored)
        if (size_bytes, sha256) != (report.output_size_bytes, report.output_sha256):
            raise OutputMismatch(
                f"the result speaks of {report.output_size_bytes} bytes of output with SHA-256 {report.output_sha256}; "
                f"stored are {size_bytes} with {sha256}"
            )
        await self._write(lambda: self._record(report, stored))
        output.on_durable = None
        outputs.release(self._ref.run_id)
        return True

    async def _record(self, report: rpc.RunResult, stored: StoredOutput) -> None:
        if self._is_late:
            await self._desks.db.write(lambda tx: late.result(tx, report, self._runner.runner_id, stored))
            log.info("run.late_result", run_id=self._ref.run_id, runner_id=self._runner.runner_id)
        else:
            after = await self._desks.db.write(
                lambda tx: progress.result(tx, report, self._runner.runner_id, stored)
            )
            log.info(
                "run.ended" if after.is_final else "run.planned", run_id=self._ref.run_id, state=after.value
            )
            if not after.is_final:
                self._desks.notices.planned()
        self._runner.send(rpc.ConnectResponse(result_ack=rpc.ResultAck(assignment=self._ref)))
        self._desks.notices.run_moved(self._ref.run_id)
        self._desks.notices.queue_changed(self._stack_id)
        self._desks.connections.freed(self._runner, self._ref.assignment_id)

    def _acknowledge(self) -> None:
        output = self._desks.outputs.opened(self._ref.run_id)
        if output is not None:
            ack = rpc.OutputAck(
                assignment=self._ref, acknowledged_offset=max(output.durable_bytes - self._start, 0)
            )
            self._runner.send(rpc.ConnectResponse(output_ack=ack))

    @property
    def _stored_bytes(self) -> int:
        """As the runner counts."""
        output = self._desks.outputs.opened(self._ref.run_id)
        return max(output.size_bytes - self._start, 0) if output else 0

    def _reject(self, error: errors.DomainError, *, release: bool) -> None:
        log.warning("runner.report_rejected", run_id=self._ref.run_id, error=error.message)
        rejected = rpc.Rejected(
            assignment=self._ref,
            reason=errors.reason_name(error.reason),
            message=error.message,
            acknowledged_offset=self._stored_bytes,
            release=release,
        )
        self._runner.send(rpc.ConnectResponse(rejected=rejected))
        if release:
            self._desks.connections.freed(self._runner, self._ref.assignment_id)
