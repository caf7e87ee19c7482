"""What a run, its stack and its runner's reports come to, said as plainly as possible: a few dictionaries, and no
database. The real store must agree with it after every step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

ENDS: Final = {"FINISHED", "FAILED", "STOPPED", "DISCARDED"}
BEHIND_GATE: Final = {"PERFORMING", "APPLYING"}
WITHOUT_SLOT: Final = ENDS | {"QUEUED"}


class Refused(Exception):
    """The control plane must refuse this, and change nothing."""


@dataclass(frozen=True)
class Ref:
    """An assignment, and the runner that it is for."""

    run_id: str
    assignment_id: str
    fence: int
    runner_id: str


@dataclass
class Run:
    """`audited` is every event of it, in order."""

    id: str
    stack_id: str
    is_tracked: bool = False
    confirms_itself: bool = False
    is_hold: bool = False
    # A hold that is released when its lease ends.
    releases_itself: bool = False
    states: list[str] = field(default_factory=lambda: ["QUEUED"])
    audited: list[str] = field(default_factory=list)
    ref: Ref | None = None
    is_accepted: bool = False
    stop_asked: bool = False
    is_unreachable: bool = False
    # Under this reference, until its runner has reported the end.
    abandoned: Ref | None = None

    @property
    def state(self) -> str:
        return self.states[-1]

    @property
    def is_active(self) -> bool:
        return self.state not in WITHOUT_SLOT

    def go(self, state: str) -> None:
        self.states.append(state)
        self.audited.append(f"run.{state.lower()}")


@dataclass
class Stack:
    fence: int = 0
    holder: str | None = None


@dataclass
class Expected:
    """Each method is one transaction. It raises Refused before it changes anything."""

    stacks: dict[str, Stack]
    runs: dict[str, Run] = field(default_factory=dict)

    def pending(self, stack_id: str) -> list[str]:
        return sorted(
            run.id for run in self.runs.values() if (run.stack_id, run.state) == (stack_id, "QUEUED")
        )

    def startable(self) -> list[str]:
        """The run that is next on each stack whose slot is free. A hold is nothing that the scheduler starts."""
        following = [
            self.pending(each)[0]
            for each, stack in self.stacks.items()
            if not stack.holder and self.pending(each)
        ]
        return [run_id for run_id in following if not self.runs[run_id].is_hold]

    def to_apply(self) -> list[str]:
        return [run.id for run in self.runs.values() if run.state == "CONFIRMED" and run.ref is None]

    def of_runner(self, runner_id: str) -> list[Run]:
        return [
            run for run in self.runs.values() if run.is_active and run.ref and run.ref.runner_id == runner_id
        ]

    def created(self, run: Run) -> None:
        event = "hold.asked" if run.is_hold else "task.created"
        run.audited.append("run.started" if run.is_tracked else event)
        self.runs[run.id] = run

    def claimed(self, ref: Ref) -> None:
        """By the scheduler: a queued run takes its free slot, a confirmed one keeps its own under a new token."""
        run = self.runs[ref.run_id]
        stack = self.stacks[run.stack_id]
        assert run.id in (*self.startable(), *self.to_apply())
        stack.fence += 1
        assert ref.fence == stack.fence
        stack.holder, run.ref, run.is_accepted = run.id, ref, False
        if run.state == "QUEUED":
            run.go("READY")

    def accepted(self, ref: Ref) -> None:
        run = self._current(ref)
        run.is_accepted = True
        if run.state == "READY":
            run.go("PREPARING")

    def initializing(self, ref: Ref) -> None:
        run = self._current(ref)
        if run.state == "READY":
            self.accepted(ref)
        if run.state == "PREPARING":
            run.go("INITIALIZING")

    def planning(self, ref: Ref) -> None:
        self.initializing(ref)
        run = self._current(ref)
        if run.is_tracked and run.state == "INITIALIZING":
            run.go("PLANNING")

    def gate(self, ref: Ref) -> bool:
        """Whether the answer is `go`."""
        run = self._current(ref)
        if run.state in BEHIND_GATE:
            return True
        if run.stop_asked or (run.is_tracked and run.state != "CONFIRMED"):
            return False
        self.initializing(ref)
        run.go("APPLYING" if run.is_tracked else "PERFORMING")
        return True

    def ended(self, ref: Ref, *, is_success: bool) -> None:
        """The runner reports an exit code."""
        run = self._current(ref)
        if run.state == "READY":
            self.accepted(ref)
        self._end(run, "FINISHED" if is_success and run.state in BEHIND_GATE else "FAILED")

    def stopped(self, ref: Ref) -> None:
        """The runner reports that it stopped the run, as it was asked to."""
        run = self._current(ref)
        if run.state == "READY":
            self.accepted(ref)
        self._end(run, "FAILED" if run.state in BEHIND_GATE else "STOPPED")

    def planned(self, ref: Ref, *, has_changes: bool) -> None:
        self.planning(ref)
        run = self._current(ref)
        if run.stop_asked:
            self._end(run, "STOPPED")
        elif not has_changes:
            self._end(run, "FINISHED")
        else:
            run.go("CONFIRMED" if run.confirms_itself else "UNCONFIRMED")
            run.ref, run.is_unreachable = None, False

    def declined(self, ref: Ref) -> None:
        run = self._current(ref)
        if not run.is_accepted:
            self._give_up(run)

    def stop(self, run_id: str) -> None:
        run = self.runs[run_id]
        if run.state in ENDS | BEHIND_GATE or (run.is_hold and run.is_active):
            raise Refused
        if run.state in {"QUEUED", "UNCONFIRMED"}:
            self._end(run, "DISCARDED")
        elif run.state == "CONFIRMED" and run.ref is None:
            self._end(run, "STOPPED")
        elif not run.stop_asked:
            run.stop_asked = True
            run.audited.append("run.stop_requested")

    def discard(self, run_id: str) -> None:
        run = self.runs[run_id]
        if run.state == "DISCARDED":
            return
        if run.state not in {"QUEUED", "UNCONFIRMED"}:
            raise Refused
        self._end(run, "DISCARDED")

    def confirm(self, run_id: str) -> None:
        if self.runs[run_id].state != "UNCONFIRMED":
            raise Refused
        self.runs[run_id].go("CONFIRMED")

    def abandon(self, run_id: str, *, by_force: bool) -> None:
        run = self.runs[run_id]
        if "run.abandoned" in run.audited:
            return
        if run.state not in BEHIND_GATE or not (run.is_unreachable or by_force):
            raise Refused
        run.abandoned = run.ref
        self._end(run, "FAILED")
        run.audited.append("run.abandoned")
        self.stacks[run.stack_id].fence += 1

    def offered(self, run_id: str) -> None:
        """To whoever waits for a hold, if it is their turn."""
        run = self.runs[run_id]
        stack = self.stacks[run.stack_id]
        if run.is_hold and not stack.holder and self.pending(run.stack_id)[:1] == [run_id]:
            stack.fence += 1
            stack.holder = run_id
            run.go("READY")

    def renewed(self, run_id: str) -> None:
        run = self._hold(run_id)
        if run.state not in {"READY", "HELD", "EXPIRED"}:
            raise Refused
        if run.state != "HELD":
            run.go("HELD")

    def released(self, run_id: str) -> None:
        run = self._hold(run_id)
        if run.state not in ENDS:
            self._end(run, "FINISHED" if run.state in {"HELD", "EXPIRED"} else "DISCARDED")

    def taken_away(self, run_id: str, *, by_force: bool) -> None:
        run = self._hold(run_id)
        if run.state in ENDS:
            return
        if run.state == "QUEUED":
            self._end(run, "DISCARDED")
            return
        if run.state != "EXPIRED" and not by_force:
            raise Refused
        self._end(run, "FAILED")
        run.audited.append("hold.taken_away")
        self.stacks[run.stack_id].fence += 1

    def hold_lease_over(self, run_id: str) -> None:
        run = self.runs[run_id]
        if run.is_hold and run.state in {"QUEUED", "READY"}:
            self._end(run, "DISCARDED")
        elif run.state == "HELD" and run.releases_itself:
            self._end(run, "FAILED")
            self.stacks[run.stack_id].fence += 1
        elif run.state == "HELD":
            run.go("EXPIRED")

    def late_end(self, ref: Ref) -> None:
        """What the runner of an abandoned run reports is kept, once, and moves nothing."""
        run = self.runs[ref.run_id]
        if run.abandoned != ref:
            raise Refused
        run.abandoned = None
        run.audited.append("run.late_result")

    def gone(self, runner_id: str) -> None:
        """Its stream has ended."""
        for run in self.of_runner(runner_id):
            run.is_unreachable = True

    def lease_over(self, runner_id: str) -> None:
        for run in self.of_runner(runner_id):
            if run.state not in BEHIND_GATE:
                self._give_up(run)

    def returned(self, runner_id: str, held: list[Ref], rebooted: set[Ref]) -> dict[Ref, bool | None]:
        """For each that it holds: whether its gate is open, or None where it is to be let go. `rebooted`: assignments
        whose machine was started again since."""
        verdicts: dict[Ref, bool | None] = {}
        for ref in held:
            try:
                run = self._current(ref)
            except Refused:
                verdicts[ref] = False if self.runs[ref.run_id].abandoned == ref else None
                continue
            self.accepted(ref)
            run.is_unreachable = False
            verdicts[ref] = run.state in BEHIND_GATE
        for run in self.of_runner(runner_id):
            if run.ref in held:
                continue
            if run.state not in BEHIND_GATE:
                self._give_up(run)
            elif run.ref in rebooted:
                self._end(run, "FAILED")
        return verdicts

    def _hold(self, run_id: str) -> Run:
        if not self.runs[run_id].is_hold:
            raise Refused
        return self.runs[run_id]

    def _current(self, ref: Ref) -> Run:
        run = self.runs[ref.run_id]
        if not run.is_active or run.ref != ref:
            raise Refused
        return run

    def _give_up(self, run: Run) -> None:
        """Its runner does not have it any more, and its gate was never opened."""
        if run.stop_asked:
            self._end(run, "STOPPED")
        elif run.state == "CONFIRMED":
            run.ref, run.is_unreachable = None, False
            run.audited.append("run.apply_taken_back")
        elif run.state == "READY" and not run.is_accepted:
            run.go("QUEUED")
            self.stacks[run.stack_id].holder = None
            run.ref, run.is_unreachable = None, False
        else:
            self._end(run, "FAILED")

    def _end(self, run: Run, state: str) -> None:
        if run.is_active:
            self.stacks[run.stack_id].holder = None
        run.go(state)
        run.is_unreachable = False
