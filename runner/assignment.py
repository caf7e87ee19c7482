"""One run, from its assignment to its acknowledged result. The assignment is in the journal before it is accepted."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import structlog

from interlock.v1.run_pb2 import RUN_STATE_PERFORMING, RunState
from interlock.v1.runner_service_pb2 import (
    AssignmentRef,
    ConnectResponse,
    HeldAssignment,
    Job,
    Rejected,
    RunOutcome,
    RunResult,
)
from runner import environment
from runner.container import RunContainer
from runner.execution import Execution
from runner.gatekeeping import BeforeGate
from runner.journal import Entry, Outcome, Result
from runner.output import Store
from runner.page import Page
from runner.report import Report
from runner.spool import SHA256_OF_NOTHING, Spool
from runner.workshop import Workshop

log = structlog.get_logger(__name__)

_SPOOL = "spool"
_MAX_REASON_BYTES = 16384


class Run:
    """`execute` it once; the control plane's messages come in through the other methods, which return at once."""

    def __init__(
        self, entry: Entry, job: Job, workshop: Workshop, *, stored: tuple[int, str] | None = None
    ) -> None:
        """`stored`: of a run that an earlier process began, how much output the control plane has, and its hash."""
        self.assignment = AssignmentRef(
            run_id=entry.run_id, assignment_id=entry.assignment_id, fencing_token=entry.fencing_token
        )
        self._is_recovered = stored is not None
        self._stored_bytes, self._stored_sha256 = stored or (0, SHA256_OF_NOTHING)
        self._workshop = workshop
        self._page = Page(workshop.journal, entry)
        self.report = Report(
            assignment=self.assignment,
            spool=Spool(
                self._page.folder / _SPOOL,
                max_bytes=workshop.max_spool_bytes,
                start=self._stored_bytes,
                start_sha256=self._stored_sha256,
            ),
            accepted=self._is_recovered,
            acknowledged=self._stored_bytes,
        )
        self._before_gate = BeforeGate(
            entry.run_id,
            total_timeout_s=environment.total_timeout_s(job.container),
            no_output_timeout_s=environment.no_output_timeout_s(job.container),
        )
        self._container = RunContainer(workshop.engine, workshop.runner_id, entry)
        self._execution = Execution(
            job=job,
            assignment=self.assignment,
            workshop=workshop,
            page=self._page,
            report=self.report,
            before_gate=self._before_gate,
            store=Store(room=self.report.room, on_stored=self.report.change, on_held=self._hold_back),
            container=self._container,
        )
        self._whole: asyncio.Timeout | None = None
        self._is_released = False
        self.is_held_back = False
        """Its container waits, because there is no room for its output."""

    async def execute(self) -> None:
        """Returns when nothing of the run is left here. Cancelled, it leaves everything as it is."""
        try:
            async with asyncio.timeout(0 if self._is_released else None) as self._whole:
                await self._report_result(await self._result())
                await self.report.settled.wait()
        except TimeoutError:
            if not self._is_released:
                raise
        finally:
            self._whole = None
        await self._remove()

    def held(self) -> HeldAssignment:
        """What a hello says of it."""
        entry = self._page.entry
        return HeldAssignment(
            assignment=self.assignment,
            phase=self._phase(),
            boot_id=entry.boot_id,
            container_present=self._container.is_there,
        )

    def received(self, message: ConnectResponse) -> None:
        match message.WhichOneof("message"):
            case "gate" if message.gate.go:
                if self._before_gate.let_pass():
                    self._execution.gate_opened.set()
            case "gate":
                self._stop(message.gate.reason)
            case "stop":
                self._stop(message.stop.reason)
            case "output_ack":
                self.report.output_acknowledged(message.output_ack.acknowledged_offset)
            case "result_ack":
                self.report.settled.set()
            case "rejected" if message.rejected.release:
                self.release(message.rejected.message)
            case "rejected":
                self._note_rejection(message.rejected)
            case _:
                pass

    def release(self, reason: str) -> None:
        """The control plane has no use for it any more, whatever it is doing. Said twice, it counts once."""
        if self._is_released:
            return
        log.warning("run.released", run_id=self.assignment.run_id, reason=reason)
        self._is_released = True
        if self._whole is not None:
            self._whole.reschedule(asyncio.get_running_loop().time())

    def _stop(self, reason: str) -> None:
        self._before_gate.interrupt(Result(outcome=Outcome.STOPPED, reason=f"stopped: {reason}"))

    def _note_rejection(self, rejected: Rejected) -> None:
        log.warning("run.report_rejected", run_id=self.assignment.run_id, error=rejected.message)
        self.report.refused(rejected.acknowledged_offset)

    async def _result(self) -> Result:
        recorded = self._page.entry.result
        if recorded is not None:
            await self._execution.recover_output()
            return await self._execution.with_plan(recorded)
        if self._is_recovered:
            return await self._execution.recover()
        return await self._execution.begin()

    async def _report_result(self, result: Result) -> None:
        size_bytes, sha256 = self._output()
        reason = result.reason
        if size_bytes < result.output_size_bytes or self._execution.differs is not None:
            lost = f"output behind byte {size_bytes} could not be recovered after a restart of the runner"
            reason = f"{reason}; {lost}" if reason else lost
            self.report.output_end = size_bytes
        self.report.result = RunResult(
            assignment=self.assignment,
            outcome=RunOutcome.Value(f"RUN_OUTCOME_{result.outcome.name}"),
            exit_code=result.exit_code,
            reason=reason.encode()[:_MAX_REASON_BYTES].decode(errors="ignore"),
            output_size_bytes=size_bytes,
            output_sha256=sha256,
            plan=self._execution.plan,
        )
        self.report.change()
        log.info(
            "run.ended",
            run_id=self.assignment.run_id,
            outcome=result.outcome.value,
            exit_code=result.exit_code,
            reason=reason,
            output_size_bytes=size_bytes,
        )
        # Not on the result's way: a crash before it is on the disk finds the container ended, or stopped.
        await self._page.end(replace(result, output_size_bytes=max(size_bytes, result.output_size_bytes)))
        self.report.accepted = True
        self.report.change()

    def _output(self) -> tuple[int, str]:
        """Size and hash of what the control plane has, and of what it can still get."""
        spool, differs = self.report.spool, self._execution.differs
        if differs is not None:
            return differs.size_bytes, differs.sha256
        if spool.size < self._stored_bytes:
            return self._stored_bytes, self._stored_sha256
        return spool.size, spool.sha256

    def _phase(self) -> RunState.ValueType:
        return RUN_STATE_PERFORMING if self._before_gate.is_passed else self.report.phase

    def _hold_back(self, is_held_back: bool) -> None:
        self.is_held_back = is_held_back
        log.warning(
            "run.held_back" if is_held_back else "run.has_room",
            run_id=self.assignment.run_id,
            disk_full=self.report.spool.is_disk_full,
        )
        self._workshop.status_changed.set()

    async def _remove(self) -> None:
        """Journal before the rest: what a crash leaves then belongs to nobody, and is swept at the next start."""
        self.report.close()
        if self._before_gate.is_passed:
            # Whoever has no more use for it: what performs is not cut off.
            await self._container.outlive()
        elif not self._execution.has_ended:
            await self._container.stop(0)
        await self._page.remove()
        await self._container.remove()
