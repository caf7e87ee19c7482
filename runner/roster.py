"""The runs that this runner holds: taken from the journal and from the stream, and spoken for on every stream."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Coroutine, Iterable
from typing import Any, NoReturn

import structlog

from interlock.v1.run_pb2 import RUN_STATE_INITIALIZING, RUN_STATE_PERFORMING, RUN_STATE_PREPARING, RunState
from interlock.v1.runner_service_pb2 import (
    HELD_ACTION_CONTINUE,
    Assignment,
    AssignmentDeclined,
    AssignmentRef,
    ConnectRequest,
    ConnectResponse,
    HeldAssignment,
    HeldVerdict,
    Hello,
    RunnerStatus,
    Welcome,
)
from runner import phases, script
from runner.assignment import Run
from runner.connection import Send
from runner.container import RunContainer
from runner.journal import Entry, Stage
from runner.workshop import Workshop

log = structlog.get_logger(__name__)

# It becomes the name of a folder.
_ASSIGNMENT_ID = re.compile(r"[A-Za-z0-9_]{1,64}")


class Roster:
    """The connection's party. `run` it beside the connection; it ends when the runner is drained."""

    def __init__(
        self, workshop: Workshop, greeting: Hello, *, entries: Iterable[Entry], present: Collection[str]
    ) -> None:
        """`greeting`: what every hello says. `entries`: of an earlier process; `present`: those with a container."""
        self._workshop = workshop
        self._greeting = greeting
        self._earlier = {entry.assignment_id: entry for entry in entries}
        self._present = frozenset(present)
        self._runs: dict[str, Run] = {}
        self._executing: asyncio.TaskGroup | None = None
        self._changed = workshop.status_changed
        self._is_leaving = False
        self._declined: list[AssignmentRef] = []
        """To be told on the present stream; on the next one nothing needs to be said of them."""
        self._drain_request = ""
        self._engine_trouble = ""
        self._said_status = RunnerStatus()
        self._is_done = asyncio.Event()

    async def run(self) -> None:
        """Executes the runs. Returns when it is leaving and nothing is left to do."""
        async with asyncio.TaskGroup() as self._executing:
            await self._is_done.wait()

    def leave(self) -> None:
        """Takes nothing new, finishes what it has."""
        log.info("runner.draining", runs=len(self._runs) + len(self._earlier))
        self._is_leaving = True
        self._workshop.warm.end()
        self._note_change()

    def note_engine(self, trouble: str) -> None:
        """Whether the container engine answers; "" for yes."""
        if bool(trouble) != bool(self._engine_trouble):
            log.warning("engine.away" if trouble else "engine.back", error=trouble)
        self._engine_trouble = trouble
        self._note_change()

    def status(self) -> RunnerStatus:
        held_back = [run for run in self._runs.values() if run.is_held_back]
        is_disk_full = any(run.report.spool.is_disk_full for run in held_back)
        reasons = [
            "the runner is ending" if self._is_leaving else "",
            self._drain_request,
            "no room for output on the runner's disk" if is_disk_full else "",
            "output waits for the control plane" if held_back and not is_disk_full else "",
            self._engine_trouble,
        ]
        return RunnerStatus(
            draining=self._is_leaving or bool(self._drain_request) or bool(held_back),
            engine_away=bool(self._engine_trouble),
            reason="; ".join(filter(None, reasons))[:1024],
        )

    def hello(self) -> Hello:
        self._declined.clear()
        hello = Hello()
        hello.CopyFrom(self._greeting)
        for run in self._runs.values():
            run.report.begin_stream()
            hello.held.append(run.held())
        hello.held.extend(self._held_earlier(entry) for entry in self._earlier.values())
        self._said_status = self.status()
        hello.status.CopyFrom(self._said_status)
        return hello

    def welcomed(self, welcome: Welcome) -> None:
        self._drain_request = ""
        for verdict in welcome.held:
            assignment_id = verdict.assignment.assignment_id
            if (run := self._runs.get(assignment_id)) is not None:
                if verdict.action == HELD_ACTION_CONTINUE:
                    run.report.continue_from(verdict.acknowledged_offset)
                else:
                    run.release(verdict.reason)
            elif (entry := self._earlier.pop(assignment_id, None)) is not None:
                self._settle_earlier(entry, verdict)
        self._note_change()

    def received(self, message: ConnectResponse) -> None:
        match message.WhichOneof("message"):
            case "assignment":
                self._take(message.assignment)
            case "drain" if not message.drain.reconnect:
                self._drain_request = f"the control plane asked to drain: {message.drain.reason}"
                self._note_change()
            case "gate" | "output_ack" | "result_ack" | "stop" | "rejected" as kind:
                ref = getattr(message, kind).assignment
                run = self._runs.get(ref.assignment_id)
                if run is not None and run.assignment == ref:
                    run.received(message)
            case _:
                pass

    async def speak(self, send: Send) -> NoReturn:
        tellers: dict[str, asyncio.Task[NoReturn]] = {}
        async with asyncio.TaskGroup() as telling:
            while True:
                self._changed.clear()
                for assignment_id, run in self._runs.items():
                    if assignment_id not in tellers:
                        tellers[assignment_id] = telling.create_task(run.report.tell(send))
                for assignment_id in tellers.keys() - self._runs.keys():
                    tellers.pop(assignment_id).cancel()
                if (status := self.status()) != self._said_status:
                    self._said_status = status
                    await send(ConnectRequest(status=status))
                while self._declined:
                    declined = AssignmentDeclined(assignment=self._declined.pop(0))
                    await send(ConnectRequest(declined=declined))
                await self._changed.wait()

    def _take(self, assignment: Assignment) -> None:
        ref = assignment.assignment
        if ref.assignment_id in self._runs:
            return
        if not _ASSIGNMENT_ID.fullmatch(ref.assignment_id):
            log.error("assignment.refused", run_id=ref.run_id, why="its id cannot be a folder's name")
            return
        if self._is_leaving or self._drain_request:
            log.info("run.declined", run_id=ref.run_id, why=self.status().reason)
            self._declined.append(ref)
            self._note_change()
            return
        log.info("run.assigned", run_id=ref.run_id, stack_id=assignment.job.stack_id)
        entry = Entry(
            run_id=ref.run_id,
            assignment_id=ref.assignment_id,
            fencing_token=ref.fencing_token,
            boot_id=self._greeting.boot_id,
            engine_id=self._workshop.engine_id,
            nonce=phases.new_nonce(),
            gate_token=script.new_gate_token(),
        )
        self._execute(Run(entry, assignment.job, self._workshop))

    def _settle_earlier(self, entry: Entry, verdict: HeldVerdict) -> None:
        log.info("run.found", run_id=entry.run_id, stage=entry.stage.value, goes_on=verdict.HasField("job"))
        if verdict.action == HELD_ACTION_CONTINUE:
            stored = verdict.acknowledged_offset, verdict.acknowledged_sha256
            run = Run(entry, verdict.job, self._workshop, stored=stored)
            run.report.begin_stream()
            self._execute(run)
        else:
            self._start(self._discard(entry))

    def _execute(self, run: Run) -> None:
        self._runs[run.assignment.assignment_id] = run
        self._start(self._until_removed(run))
        self._note_change()

    async def _until_removed(self, run: Run) -> None:
        await run.execute()
        del self._runs[run.assignment.assignment_id]
        self._note_change()

    async def _discard(self, entry: Entry) -> None:
        container = RunContainer(self._workshop.engine, self._workshop.runner_id, entry)
        if entry.stage is Stage.GATE_PASSED:
            await container.outlive()
        await asyncio.to_thread(self._workshop.journal.remove, entry.assignment_id)
        await container.remove()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        assert self._executing is not None, "the roster runs as long as the connection"
        self._executing.create_task(work)

    def _held_earlier(self, entry: Entry) -> HeldAssignment:
        return HeldAssignment(
            assignment=AssignmentRef(
                run_id=entry.run_id, assignment_id=entry.assignment_id, fencing_token=entry.fencing_token
            ),
            phase=_phase_of(entry),
            boot_id=entry.boot_id,
            container_present=entry.assignment_id in self._present,
        )

    def _note_change(self) -> None:
        self._changed.set()
        if self._is_leaving and not self._runs and not self._earlier:
            self._is_done.set()


def _phase_of(entry: Entry) -> RunState.ValueType:
    if entry.has_passed_gate:
        return RUN_STATE_PERFORMING
    return RUN_STATE_PREPARING if entry.stage is Stage.ACCEPTED else RUN_STATE_INITIALIZING
