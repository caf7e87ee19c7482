"""Invariants 1, 2, 3 and 7: whatever callers, runners and crashes do in whatever order, the real store says what a
model of a few dictionaries says. A crash comes before any statement, or between a commit and its answer.

INTERLOCK_MODEL_EXAMPLES=2000 looks longer, and elsewhere each time.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import os
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from control_plane.errors import DomainError
from control_plane.keys import MasterKey, Sealer
from control_plane.runs import late, reconcile
from control_plane.storage.database import Database
from control_plane.storage.outputs import StoredOutput
from tests.integration.runs.model import agreement, lending, reports
from tests.integration.runs.model.expected import BEHIND_GATE, ENDS, Expected, Ref, Refused, Run, Stack
from tests.integration.runs.model.machine import Container, Machine
from tests.integration.runs.model.process import ControlPlane, Crash, furnish

T = TypeVar("T")

LONG: Final = int(os.environ.get("INTERLOCK_MODEL_EXAMPLES") or 0)
EXAMPLES: Final = LONG or 35
STEPS: Final = 40
OUTPUT: Final = StoredOutput(3, "abc")
# Of the stacks, machines, runs and containers that there are: it wraps around.
ANY: Final = st.integers(0, 3)
_numbers = itertools.count(1)


class NoAnswer(Enum):
    REFUSED = "nothing was changed"
    # The process died: before, or after it was done.
    UNHEARD = "nobody knows"


class Interlock(RuleBasedStateMachine):
    """Two stacks, two runners, and one control plane that dies now and then."""

    db: Database
    folder: Path
    loop: asyncio.AbstractEventLoop

    def __init__(self) -> None:
        super().__init__()
        self.name = f"model-{next(_numbers)}"
        stacks = [f"{self.name}-{number}" for number in range(2)]
        self.plane = ControlPlane(
            self.db, Sealer(MasterKey(bytes(32))), self.loop, self.folder / self.name, self.name
        )
        self.plane.write(lambda tx: furnish(tx, self.name, stacks))
        self.expected = Expected({stack_id: Stack() for stack_id in stacks})
        self.machines = [Machine(f"rnr-{self.name}-{number}", capacity=number + 1) for number in range(2)]
        self.requests = itertools.count(1)
        # Calls that nobody answered: their caller asks again.
        self.unanswered: list[tuple[str, Run]] = []
        # Every reference that there ever was, with the boot of its machine then; and by run, the one that had its `go`.
        self.boots: dict[Ref, int] = {}
        self.performed: dict[str, Ref] = {}

    def teardown(self) -> None:
        self.plane.close()

    @invariant()
    def the_store_says_what_is_expected(self) -> None:
        with self.db.engine.connect() as tx:
            agreement.assert_agrees(tx, self.expected)

    @invariant()
    def no_slot_is_free_while_its_command_may_be_performing(self) -> None:
        for container in (each for machine in self.machines for each in machine.containers if each.performs):
            run = self.expected.runs[container.ref.run_id]
            holds = run.state in BEHIND_GATE and self.expected.stacks[run.stack_id].holder == run.id
            assert holds or "run.abandoned" in run.audited

    @initialize(are_tracked=st.lists(st.booleans(), min_size=1, max_size=3), steps=st.integers(0, 9))
    def begin(self, are_tracked: list[bool], steps: int) -> None:
        """Some runs, and the first of them on its way."""
        for number, is_tracked in enumerate(are_tracked):
            self.create(number, is_tracked=is_tracked, confirms_itself=number == 1)
        self.go_on(which=len(are_tracked), container=0, is_good=True, steps=steps)
        self.connect(self.machines[0])

    @rule(statement=st.sampled_from([*range(1, 13), 15, 18, 22, 27, 33]))
    def crash_soon(self, statement: int) -> None:
        self.plane.crash_before(statement)

    # What callers do.

    @rule(stack=ANY, is_tracked=st.booleans(), confirms_itself=st.booleans())
    def create(self, stack: int, is_tracked: bool, confirms_itself: bool) -> None:
        stack_id = _any(sorted(self.expected.stacks), stack)
        run = Run("", stack_id, is_tracked=is_tracked, confirms_itself=is_tracked and confirms_itself)
        self.ask(f"{self.name}-{next(self.requests)}", run)

    @rule(stack=ANY, releases_itself=st.booleans())
    def ask_for_the_slot(self, stack: int, releases_itself: bool) -> None:
        stack_id = _any(sorted(self.expected.stacks), stack)
        run = Run("", stack_id, is_hold=True, releases_itself=releases_itself)
        self.ask(f"{self.name}-{next(self.requests)}", run)

    @precondition(lambda self: self.expected.runs)
    @rule(which=ANY, what=st.sampled_from(sorted(lending.WORDS)), steps=st.integers(0, 2))
    def lend(self, which: int, what: str, steps: int) -> None:
        """Often of a hold, which has come so far before."""
        holds = [run.id for run in self.expected.runs.values() if run.is_hold and run.state not in ENDS]
        run_id = _any(holds or list(self.expected.runs), which)
        for word in [*("offer", "renew")[:steps], what]:
            token = self.expected.stacks[self.expected.runs[run_id].stack_id].fence
            self.both(*lending.said(word, run_id, token))

    @precondition(lambda self: self.unanswered)
    @rule()
    def ask_again(self) -> None:
        self.ask(*self.unanswered.pop())

    def ask(self, request_id: str, run: Run) -> None:
        try:
            made = self.plane.create(run, request_id)
        except Crash:
            self.unanswered.append((request_id, run))
            self.restart()
            return
        if made not in self.expected.runs:
            run.id = made
            self.expected.created(run)
        if self.heard(made) is NoAnswer.UNHEARD:
            self.unanswered.append((request_id, run))

    @precondition(lambda self: self.expected.runs)
    @rule(which=ANY, what=st.sampled_from(["confirm", "abandon", "abandon by force", "stop", "discard"]))
    def call(self, which: int, what: str) -> None:
        """Often about a run that it may be said of."""
        wanted = {"confirm": {"UNCONFIRMED"}, "stop": {"INITIALIZING", "PLANNING", "CONFIRMED"}}.get(
            what, BEHIND_GATE
        )
        fitting = [run.id for run in self.expected.runs.values() if run.state in wanted]
        run_id = _any(fitting or list(self.expected.runs), which)
        unit, expect = reports.call(what, run_id)
        self.both(unit, expect)

    # What the control plane does by itself.

    @rule()
    def dispatch(self) -> None:
        room = sum(each.connection.free_capacity for each in self.machines if each.connection)
        wanted = min(room, len(self.expected.startable() + self.expected.to_apply()))
        is_done = self.plane.dispatch()
        with self.db.engine.connect() as tx:
            claims = agreement.claims(tx, self.expected)
        assert len(claims) == wanted or (not is_done and not claims)
        for ref in claims:
            self.expected.claimed(ref)
            self.boots[ref] = next(each.boot for each in self.machines if each.runner_id == ref.runner_id)
        if not is_done or self.plane.is_about_to_crash:
            self.restart()

    # What runners do, and what is done to them.

    @rule(which=ANY, container=ANY, is_good=st.booleans(), steps=st.integers(1, 7))
    def go_on(self, which: int, container: int, is_good: bool, steps: int) -> None:
        """A runner's next steps, whatever they are."""
        machine = _any(self.machines, which)
        for _ in range(steps):
            if machine.connection is None:
                self.connect(machine)
            elif not machine.connection.outgoing.empty():
                message = machine.connection.outgoing.get_nowait()
                assert message is not None
                self.tell(machine, "accepted", machine.take(message.assignment))
            elif machine.journal:
                self.step(machine, _any(list(machine.journal.values()), container), is_good=is_good)
            else:
                self.dispatch()

    @rule(which=ANY)
    def decline(self, which: int) -> None:
        machine = _any(self.machines, which)
        if machine.connection is not None and not machine.connection.outgoing.empty():
            message = machine.connection.outgoing.get_nowait()
            assert message is not None
            container = machine.take(message.assignment)
            if self.tell(machine, "declined", container) is None:
                self.let_go(machine, container)

    @rule(
        which=ANY, what=st.sampled_from(["cut", "lease over", "reboot", "lose the journal", "lose the disk"])
    )
    def harm(self, which: int, what: str) -> None:
        """`lose the journal`: its containers live on. `lose the disk`: it boots anew without it."""
        machine = _any(self.machines, which)
        self.disconnect(machine)
        if what in {"reboot", "lose the disk"}:
            machine.reboot()
        if what in {"lose the journal", "lose the disk"}:
            machine.journal.clear()
        if what == "lease over":
            self.both(
                lambda tx: self.plane.end_lease(tx, machine.runner_id),
                lambda model: model.lease_over(machine.runner_id),
            )

    @precondition(lambda self: self.boots)
    @rule(which=ANY, what=st.sampled_from(reports.ALL), forged=st.booleans())
    def report_what_is_over(self, which: int, what: str, forged: bool) -> None:
        """Under an assignment that is none any more, or never was."""
        current = [run.ref for run in self.expected.runs.values() if run.is_active]
        over = [ref for ref in self.boots if ref not in current]
        if forged:
            true = _any(list(self.boots), which)
            over = [Ref(true.run_id, true.assignment_id, true.fence + 1, true.runner_id)]
        if over:
            ref = _any(over, which)
            answer = self.both(reports.unit(what, ref), lambda model: getattr(model, what)(ref))
            assert isinstance(answer, NoAnswer)

    def connect(self, machine: Machine) -> None:
        if machine.connection is not None:
            return
        hello = machine.hello()
        held = [each.ref for each in machine.journal.values()]
        rebooted = {ref for ref, boot in self.boots.items() if boot != machine.boot}
        machine.connection = self.plane.connect(hello)
        if machine.connection is None:
            self.restart()
            return
        answer = self.both(
            lambda tx: self.plane.settle(tx, hello),
            lambda model: model.returned(machine.runner_id, held, rebooted),
        )
        if isinstance(answer, reconcile.Reconciled):
            self.welcome(machine, answer)

    def welcome(self, machine: Machine, answer: reconcile.Reconciled) -> None:
        assert machine.connection is not None
        self.plane.welcome(machine.connection, answer.kept)
        for verdict in answer.released:
            self.let_go(machine, machine.journal[verdict.assignment.assignment_id])
        for kept in answer.kept:
            container = machine.journal[kept.ref.assignment_id]
            if kept.verdict.gate_open:
                self.begin_command(container)
            elif kept.stop_requested:
                container.stop()

    def disconnect(self, machine: Machine) -> None:
        connection, machine.connection = machine.connection, None
        if connection is not None:
            self.plane.connections.remove(connection)
            self.both(
                lambda tx: self.plane.part_with(connection, tx), lambda model: model.gone(machine.runner_id)
            )

    def step(self, machine: Machine, container: Container, *, is_good: bool) -> None:
        if not container.is_alive or container.has_go or (container.plans and container.is_initializing):
            container.is_alive = False
            self.report_end(machine, container, is_good=is_good)
        elif not container.is_initializing:
            container.is_initializing = True
            self.tell(machine, "planning" if container.plans else "initializing", container)
        else:
            gate = self.tell(machine, "gate", container)
            if not isinstance(gate, NoAnswer) and gate.go:
                self.begin_command(container)
            elif not isinstance(gate, NoAnswer):
                container.stop()

    def begin_command(self, container: Container) -> None:
        if container.is_alive:
            assert self.performed.setdefault(container.ref.run_id, container.ref) == container.ref, (
                "a second execution"
            )
            container.has_go = True

    def tell(self, machine: Machine, what: str, container: Container) -> Any:
        answer = self.both(
            reports.unit(what, container.ref), lambda model: getattr(model, what)(container.ref)
        )
        if answer is NoAnswer.REFUSED:
            self.let_go_or_report_late(machine, container)
        return answer

    def report_end(self, machine: Machine, container: Container, *, is_good: bool) -> None:
        report = reports.end_of(container, is_good=is_good)
        answer = self.both(
            lambda tx: reports.result(tx, report, machine.runner_id, OUTPUT),
            lambda model: reports.expect_end(model, container.ref, report),
        )
        if answer is NoAnswer.REFUSED:
            self.let_go_or_report_late(machine, container)
        elif answer is not NoAnswer.UNHEARD:
            self.let_go(machine, container)

    def let_go_or_report_late(self, machine: Machine, container: Container) -> None:
        """Its run is another's, or over; an admin may have abandoned it."""
        if self.expected.runs[container.ref.run_id].abandoned != container.ref:
            self.let_go(machine, container)
            return
        container.is_alive = False
        report = reports.end_of(container, is_good=True)
        answer = self.both(
            lambda tx: late.result(tx, report, machine.runner_id, OUTPUT),
            lambda model: model.late_end(container.ref),
        )
        if answer is not NoAnswer.UNHEARD:
            self.let_go(machine, container)

    def let_go(self, machine: Machine, container: Container) -> None:
        assert not container.performs, "a command was let go while it performed"
        machine.remove(container)
        if machine.connection is not None:
            self.plane.connections.freed(machine.connection, container.ref.assignment_id)

    # A step of the model and of the real thing.

    def both(self, unit: Callable[[sa.Connection], T], expect: Callable[[Expected], object]) -> T | NoAnswer:
        """One transaction. Where it is refused, or the process dies in it, nothing may have changed."""
        after = copy.deepcopy(self.expected)
        try:
            expect(after)
            is_refused = False
        except Refused:
            is_refused = True
        try:
            answer: T | NoAnswer = self.plane.write(unit)
        except Crash:
            self.restart()
            return NoAnswer.UNHEARD
        except DomainError:
            assert is_refused
            return self.heard(NoAnswer.REFUSED)
        assert not is_refused, f"{answer} came of what was to be refused"
        self.expected = after
        return self.heard(answer)

    def heard(self, answer: T) -> T | NoAnswer:
        if self.plane.is_about_to_crash:
            self.restart()
            return NoAnswer.UNHEARD
        return answer

    def restart(self) -> None:
        self.plane.start()
        for machine in self.machines:
            machine.connection = None
            self.expected.gone(machine.runner_id)


def _any(choices: list[T], which: int) -> T:
    return choices[which % len(choices)]


@pytest.mark.slow
def test_the_store_agrees_with_the_model_whatever_happens_and_wherever_it_crashes(
    db: Database, tmp_path: Path
) -> None:
    with asyncio.Runner() as runner:
        machine = type("Machine", (Interlock,), {"db": db, "folder": tmp_path, "loop": runner.get_loop()})
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=STEPS,
                derandomize=not LONG,
                database=None,
                deadline=None,
                print_blob=True,
                phases=(Phase.generate, Phase.shrink),
                suppress_health_check=list(HealthCheck),
            ),
        )
