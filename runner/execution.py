"""What of a run happens in its container: made, followed, let through its gate, and come to its end.

The promises: `go` is in the journal before the container gets its gate token; before `go` the run can be ended at
any moment, and after it nothing here ends it.
"""

from __future__ import annotations

import asyncio
import tarfile
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NoReturn

import structlog

from interlock.v1.run_pb2 import RUN_STATE_INITIALIZING, RUN_STATE_PLANNING
from interlock.v1.runner_service_pb2 import RUN_PART_PLAN, AssignmentRef, Job, PlanReport
from runner import environment, outcome, plan_report, script
from runner.container import RunContainer
from runner.engine import ContainerExit
from runner.errors import ContainerGone, OutputDiffers, PreparationCutShort, RunnerError, StreamCut
from runner.following import Following
from runner.gatekeeping import BeforeGate
from runner.job_secrets import masked, secrets_of
from runner.journal import Outcome, Result, Stage
from runner.kept_plan import Left
from runner.output import Store
from runner.page import Page
from runner.phases import GateReached, Phase, PhaseBegan, PhaseEnded, PhaseEvent
from runner.preparation import Preparation
from runner.report import Report
from runner.workshop import Workshop

log = structlog.get_logger(__name__)

# Time for the after_run hooks of a run that is cut short; without hooks it ends at once.
_HOOKS_GRACE_S = 10.0
_ENDED_WITHIN_S = 10.0
# A shell that has its script begins within milliseconds; a busy engine takes its time to tell.
_SCRIPT_BEGINS_WITHIN_S = 15.0


@dataclass(kw_only=True)
class Execution:
    """`begin` or `recover`, once."""

    job: Job
    assignment: AssignmentRef
    workshop: Workshop
    page: Page
    report: Report
    before_gate: BeforeGate
    store: Store
    container: RunContainer
    gate_opened: asyncio.Event = field(default_factory=asyncio.Event)
    plan: PlanReport | None = None
    """Of a result that says PLANNED: what was planned, and kept by the control plane."""
    _phase_codes: dict[Phase, int] = field(default_factory=dict)
    _has_begun: bool = False
    """The script has its gate's token and told that it performs."""
    _script_began: asyncio.Event = field(default_factory=asyncio.Event)
    _following: Following | None = None
    _ending: asyncio.Task[ContainerExit] | None = None

    @property
    def differs(self) -> OutputDiffers | None:
        """Set when only part of the output could be recovered after a restart."""
        return self._following.differs if self._following else None

    @property
    def has_ended(self) -> bool:
        """The container has ended by itself."""
        ending = self._ending
        return ending is not None and ending.done() and not ending.cancelled() and ending.exception() is None

    async def begin(self) -> Result:
        """A new run. Returns how it ended, with all its output in the spool."""
        return await self.with_plan(await self._to_its_end(self._start))

    async def recover(self) -> Result:
        """A run that an earlier process began."""
        if self.page.entry.stage is Stage.GATE_PASSED:
            self.before_gate.let_pass()
            self.gate_opened.set()
        return await self.with_plan(await self._to_its_end(self._find))

    async def recover_output(self) -> None:
        """Of a run that had ended in an earlier process: what was not acknowledged is read again."""
        if await self.container.found() is not None:
            preamble = await asyncio.to_thread(self.page.preamble)
            following = self._followed(secrets_of(self.job), preamble, on_event=self._note_end)
            with suppress(ContainerGone):
                await following.recover()

    async def with_plan(self, result: Result) -> Result:
        """The same result once the control plane has what the plan left, or why it has not."""
        if result.outcome is not Outcome.PLANNED:
            return result
        try:
            if await self.container.found() is None:
                raise ContainerGone("the container is gone")
            with await asyncio.to_thread(Left.on_disk, self.workshop.folder) as left:
                await self.container.once_engine_answers(
                    lambda: self.container.read(script.WORKSPACE, left.take)
                )
                self.plan = await asyncio.to_thread(
                    plan_report.report_of,
                    left.json,
                    has_changes=left.has_changes,
                    mask=lambda text: masked(text, self.job),
                )
                if left.has_changes:
                    self.plan.kept_sha256 = await self.workshop.store_plan(self.assignment, left.archive)
        except (RunnerError, OSError, tarfile.TarError) as error:
            cause = error.message if isinstance(error, RunnerError) else str(error)
            reason = await asyncio.to_thread(masked, f"the plan could not be kept: {cause}", self.job)
            return Result(outcome=Outcome.PLAN_FAILED, reason=f"{reason}; nothing was applied")
        return result

    async def _to_its_end(self, start: Callable[[], Awaitable[None]]) -> Result:
        silence: asyncio.Task[NoReturn] | None = None
        try:
            async with self.before_gate.interruptible():
                await start()
                silence = asyncio.create_task(
                    self.before_gate.watch_silence(lambda: self.store.last_output_s)
                )
                await self._first_of(self.gate_opened)
            if self.before_gate.interruption is not None:
                return await self._cut_short(self.before_gate.interruption)
            return await self._perform()
        except ContainerGone as error:
            return outcome.of_gone_container(error.message, is_gate_passed=self.before_gate.is_passed)
        except RunnerError as error:
            if self.before_gate.is_passed:
                raise
            reason = await asyncio.to_thread(masked, error.message, self.job)
            return Result(outcome=Outcome.PREPARATION_FAILED, reason=reason)
        finally:
            background = [task for task in (silence, self._ending) if task is not None]
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)

    async def _start(self) -> None:
        secrets = secrets_of(self.job)
        preparation = Preparation(
            job=self.job,
            assignment=self.assignment,
            workshop=self.workshop,
            page=self.page,
            report=self.report,
            container=self.container,
            secrets=secrets,
        )
        with self.workshop.warm.held_off():
            prepared = await preparation.run()
            following = self._followed(secrets, prepared.preamble, on_event=self._note)
            self._ending = asyncio.create_task(following.follow(prepared.output, prepared.masker))
            await self._feed(prepared.script)

    async def _feed(self, text: bytes) -> None:
        assert self._ending is not None
        try:
            await self.container.feed(text)
        except StreamCut:
            # A container that has ended, such as one without `sh`, tells more by its exit.
            await asyncio.wait({self._ending}, timeout=_ENDED_WITHIN_S)
            if not self._ending.done():
                raise

    async def _find(self) -> None:
        if await self.container.found() is None:
            raise ContainerGone("the run's container was gone when the runner was started again")
        preamble = await asyncio.to_thread(self.page.preamble)
        following = self._followed(secrets_of(self.job), preamble, on_event=self._note)
        self._ending = asyncio.create_task(following.recover())
        if self.before_gate.is_passed:
            return
        if not await self._first_of(self._script_began, within_s=_SCRIPT_BEGINS_WITHIN_S):
            # The earlier process had not fed all of it, and nobody else can.
            await self.container.stop(0)
            raise PreparationCutShort

    def _followed(
        self, secrets: list[bytes], preamble: bytes | None, *, on_event: Callable[[PhaseEvent], None]
    ) -> Following:
        self._following = Following(
            engine=self.workshop.engine,
            container=self.container.id,
            run_id=self.assignment.run_id,
            nonce=self.page.entry.nonce,
            secrets=secrets,
            spool=self.report.spool,
            store=self.store,
            on_event=on_event,
            is_whole=self._is_whole,
            preamble=preamble,
        )
        return self._following

    def _note(self, event: PhaseEvent) -> None:
        """A mark came by; in a replay, perhaps not for the first time."""
        match event:
            case PhaseBegan(Phase.PERFORMING):
                self._has_begun = True
            case PhaseBegan(Phase.INITIALIZING):
                self._script_began.set()
                self.report.phase = RUN_STATE_INITIALIZING
            case PhaseBegan(Phase.PLANNING):
                self.report.phase = RUN_STATE_PLANNING
            case GateReached() if not self.before_gate.is_passed and self.before_gate.interruption is None:
                self.before_gate.reach()
                self.report.is_at_gate = True
            case _:
                self._note_end(event)
        self.report.change()

    def _note_end(self, event: PhaseEvent) -> None:
        if isinstance(event, PhaseEnded):
            self._phase_codes[event.phase] = event.exit_code

    def _is_whole(self) -> bool:
        """Whether the script's last mark came by."""
        if self.job.part == RUN_PART_PLAN:
            return Phase.PLANNING in self._phase_codes or self._phase_codes.get(Phase.INITIALIZING, 0) != 0
        if self.job.hooks.after_run:
            return Phase.FINISHING in self._phase_codes
        return Phase.PERFORMING in self._phase_codes or self._phase_codes.get(Phase.INITIALIZING, 0) != 0

    async def _first_of(self, event: asyncio.Event, within_s: float | None = None) -> bool:
        """Waits for the event or the container's end. False when neither came in time."""
        assert self._ending is not None
        awaited = asyncio.create_task(event.wait())
        try:
            done, _ = await asyncio.wait(
                {awaited, self._ending}, timeout=within_s, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            awaited.cancel()
        return bool(done)

    async def _perform(self) -> Result:
        assert self._ending is not None
        opening = None
        if self.before_gate.is_passed:
            self.report.is_at_gate = False
            await self.page.pass_gate()
            token = script.gate_line(self.page.entry.gate_token)
            opening = asyncio.create_task(self.container.open_gate(token))
        try:
            ended = await self._ending
        finally:
            if opening is not None:
                opening.cancel()
                await asyncio.gather(opening, return_exceptions=True)
        return outcome.of_exit(
            ended,
            is_gate_passed=self.before_gate.is_passed,
            has_begun=self._has_begun,
            phase_codes=self._phase_codes,
            memory_bytes=environment.memory_bytes(self.job.container),
            plans=self.job.part == RUN_PART_PLAN,
        )

    async def _cut_short(self, result: Result) -> Result:
        log.info("run.cut_short", run_id=self.assignment.run_id, reason=result.reason)
        has_started = self._ending is not None
        await self.container.stop(_HOOKS_GRACE_S if has_started and self.job.hooks.after_run else 0)
        if self._ending is not None:
            with suppress(ContainerGone):
                await self._ending
        return result
