"""One runner's stream, from hello to its end: reads, and hands each run's messages to its desk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import structlog

from control_plane import clock, errors
from control_plane.keys import Sealer
from control_plane.pools.connections import HeldRun, RunnerConnection
from control_plane.runs import output_parts
from control_plane.runs.desk import Desk, Desks
from control_plane.runs.errors import FencedOut
from control_plane.runs.reach import Reach
from control_plane.runs.reconcile import Kept, Reconciled, missing, reconcile
from interlock.v1 import run_pb2
from interlock.v1 import runner_service_pb2 as rpc

HEARTBEAT_INTERVAL_S = 10.0
# A verdict carries its job; a runner takes messages of 64 MiB.
_WELCOME_BYTES = 8 << 20
# A runner that sent nothing for so long is gone, whatever its connection says.
SILENCE_S = 30.0

log = structlog.get_logger(__name__)


class RunnerStream:
    """Serves one connected runner until its stream ends."""

    def __init__(
        self,
        desks: Desks,
        reach: Reach,
        sealer: Sealer,
        runner: RunnerConnection,
        requests: AsyncIterator[rpc.ConnectRequest],
    ) -> None:
        self._desks = desks
        self._reach = reach
        self._sealer = sealer
        self._runner = runner
        self._requests = requests
        self._at_desk: dict[str, Desk] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def welcome(self, hello: rpc.Hello) -> list[rpc.Welcome]:
        """Settles what the runner holds, opens a desk for each run that goes on, and answers, in parts."""
        outcome = await self._reconcile(hello)
        for held in hello.held:
            log.info(
                "run.held",
                run_id=held.assignment.run_id,
                runner_id=hello.runner_id,
                is_performing=held.phase == run_pb2.RUN_STATE_PERFORMING,
                has_container=held.container_present,
                has_rebooted=held.boot_id != hello.boot_id,
            )
        self._reach.found(self._runner.runner_id)
        verdicts = [*outcome.released, *[await self._take_up(kept) for kept in outcome.kept]]
        welcomes = [self._part_of_welcome()]
        room_bytes = _WELCOME_BYTES
        for verdict in verdicts:
            room_bytes -= verdict.ByteSize()
            if room_bytes < 0 and welcomes[-1].held:
                welcomes[-1].more = True
                welcomes.append(self._part_of_welcome())
                room_bytes = _WELCOME_BYTES - verdict.ByteSize()
            welcomes[-1].held.append(verdict)
        self._runner.is_welcomed = True
        self._tell(outcome)
        return welcomes

    def _part_of_welcome(self) -> rpc.Welcome:
        return rpc.Welcome(
            runner_id=self._runner.runner_id,
            pool_id=self._runner.pool_id,
            heartbeat_interval_ms=int(HEARTBEAT_INTERVAL_S * 1000),
        )

    async def serve(self) -> None:
        """Reads until the stream ends, the runner falls silent, or somebody ends it. Its desks end with it.

        Raises whatever broke the reader.
        """
        reader = self._start(self._read())
        self._start(self._watch_silence())
        try:
            waited: set[asyncio.Future[Any]] = {reader, self._runner.ended}
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if reader.done():
                reader.result()
        finally:
            await self.close()

    async def close(self) -> None:
        """Ends its desks, those too that `welcome` opened for a runner which was gone before `serve`."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _reconcile(self, hello: rpc.Hello) -> Reconciled:
        outputs = self._desks.outputs
        missed = await self._desks.db.read(lambda tx: missing(tx, hello))
        stored = {run_id: await outputs.stored(run_id) for run_id in missed}
        outcome = await self._desks.db.write(lambda tx: reconcile(tx, hello, self._sealer, stored))
        for run_id in missed:
            outputs.release(run_id)
        return outcome

    async def _take_up(self, kept: Kept) -> rpc.HeldVerdict:
        # On a full disk the runner goes on from what is stored, and sends the rest again.
        stored = await self._desks.outputs.stored(kept.ref.run_id)
        kept.verdict.acknowledged_offset = stored.size_bytes - kept.output_start
        kept.verdict.acknowledged_sha256 = await output_parts.sha256_from(
            self._desks.outputs, kept.ref.run_id, kept.output_start, stored
        )
        held = HeldRun(kept.ref.run_id, kept.stack_id, kept.ref.fencing_token, kept.output_start)
        self._runner.active[kept.ref.assignment_id] = held
        self._open_desk(kept.ref, held)
        return kept.verdict

    def _tell(self, outcome: Reconciled) -> None:
        for kept in outcome.kept:
            if kept.stop_requested:
                stop = rpc.StopRequest(assignment=kept.ref, reason="a caller asked for it")
                self._runner.send(rpc.ConnectResponse(stop=stop))
        for run_id, stack_id in outcome.touched:
            self._desks.notices.run_moved(run_id)
            self._desks.notices.queue_changed(stack_id)
        self._desks.notices.runners_changed()

    async def _read(self) -> None:
        async for message in self._requests:
            self._runner.last_seen_us = clock.now_us()
            match message.WhichOneof("message"):
                case None | "hello" | "heartbeat":
                    pass
                case "status":
                    self._runner.status.CopyFrom(message.status)
                    await self._note_status()
                case kind:
                    await self._hand_over(getattr(message, kind).assignment, message)

    async def _note_status(self) -> None:
        try:
            await self._desks.replicas.note_status(
                self._runner.runner_id, self._runner.epoch, self._runner.status.SerializeToString()
            )
        except errors.DomainError as error:
            # What other replicas show is old until the runner's next word; what this one does is not.
            log.warning("runner.status_not_noted", runner_id=self._runner.runner_id, cause=error.message)
        self._desks.notices.runners_changed()

    async def _hand_over(self, ref: rpc.AssignmentRef, message: rpc.ConnectRequest) -> None:
        if ref.assignment_id in self._runner.settled:
            # Sent before the acknowledgement of the result was read. The result itself is acknowledged again.
            if message.WhichOneof("message") == "result":
                self._runner.send(rpc.ConnectResponse(result_ack=rpc.ResultAck(assignment=ref)))
            return
        held = self._runner.active.get(ref.assignment_id)
        if held is None or (held.run_id, held.fence) != (ref.run_id, ref.fencing_token):
            error = FencedOut(ref.run_id, ref.assignment_id)
            rejected = rpc.Rejected(assignment=ref, reason="FENCED_OUT", message=error.message, release=True)
            self._runner.send(rpc.ConnectResponse(rejected=rejected))
            return
        desk = self._at_desk.get(ref.assignment_id) or self._open_desk(ref, held)
        await desk.put(message)

    def _open_desk(self, ref: rpc.AssignmentRef, held: HeldRun) -> Desk:
        desk = self._at_desk[ref.assignment_id] = Desk(self._desks, self._runner, ref, held)
        self._start(self._serve_desk(ref.assignment_id, desk))
        return desk

    async def _serve_desk(self, assignment_id: str, desk: Desk) -> None:
        try:
            await desk.serve()
        # A boundary: a desk that breaks ends the stream, and the runner comes back with what it holds.
        except Exception as error:
            log.exception("runner.desk_broke", runner_id=self._runner.runner_id, assignment_id=assignment_id)
            self._runner.end(error)
        finally:
            del self._at_desk[assignment_id]
            desk.close()

    async def _watch_silence(self) -> None:
        while (silent_s := (clock.now_us() - self._runner.last_seen_us) / 1e6) < SILENCE_S:
            await asyncio.sleep(SILENCE_S - silent_s)
        log.warning("runner.silent", runner_id=self._runner.runner_id, silent_s=round(silent_s))
        self._runner.end(TimeoutError(f"nothing was heard of the runner for {silent_s:.0f} s"))

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
