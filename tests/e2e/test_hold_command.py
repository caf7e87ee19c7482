"""`interlock stack hold` and `release`: a local command inside a stack's slot."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from interlock import types
from interlock.client import Client
from tests.e2e.conftest import new_stack
from tests.house import House, reached, until, watch

# Says that it has begun, and ends once it is let: with the code that is in the file.
HELD = 'echo begun; until [ -s "$0/end" ]; do sleep 0.05; done; exit "$(cat "$0/end")"'
ON_TERM = 'trap "echo got it" TERM; ' + HELD


class Command:
    """One `interlock …`, running."""

    def __init__(self, house: House, *arguments: str) -> None:
        environment = {**os.environ, "INTERLOCK_ADDRESS": house.address, "INTERLOCK_API_KEY": house.admin_key}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "interlock.cli", *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.errors = ""

    async def says(self, words: str) -> None:
        """Returns once standard error has it."""

        def read() -> None:
            assert self.process.stderr is not None
            while words not in self.errors:
                line = self.process.stderr.readline()
                assert line, f"{words!r} never came:\n{self.errors}"
                self.errors += line

        await asyncio.to_thread(read)

    async def prints(self, line: str) -> None:
        """Returns once the next line of standard output is this."""
        assert self.process.stdout is not None
        assert await asyncio.to_thread(self.process.stdout.readline) == f"{line}\n"

    async def ended(self) -> tuple[int, str, str]:
        """Exit code, the rest of standard output, all of standard error."""
        out, err = await asyncio.to_thread(self.process.communicate)
        return self.process.returncode, out, self.errors + err


async def held(house: House, stack: types.Stack, folder: Path, *options: str, script: str = HELD) -> Command:
    """A command that runs in the slot until `end` lets it."""
    command = Command(house, "stack", "hold", stack.id, *options, "--", "sh", "-c", script, str(folder))
    await command.prints("begun")
    return command


def end(folder: Path, code: int = 0) -> None:
    (folder / "end").write_text(str(code))


async def test_the_command_runs_in_the_slot_with_its_token_and_its_exit_code_is_passed_on(
    served: House, admin: Client
) -> None:
    stack = await new_stack(admin)
    script = "echo $INTERLOCK_FENCING_TOKEN $INTERLOCK_RUN_ID $INTERLOCK_STACK_ID; exit 7"
    code, out, err = await Command(served, "stack", "hold", stack.id, "-m", "a move", "--", script).ended()
    token, run_id, stack_id = out.split()
    run = await admin.runs.get(run_id)
    assert (code, token, stack_id) == (7, "1", stack.id)
    assert (types.RunState.Name(run.state), run.hold.purpose) == ("RUN_STATE_FINISHED", "a move")
    assert [word for word in ("queued", "held", "finished") if word not in err] == []
    assert not (await admin.stacks.get(stack.id)).active_run_id


@pytest.mark.parametrize(("command", "code"), [("no-such-command-here", 127), ("/etc/passwd", 126)])
async def test_what_cannot_be_run_lets_go_at_once(
    served: House, admin: Client, command: str, code: int
) -> None:
    stack = await new_stack(admin)
    ended, _, err = await Command(served, "stack", "hold", stack.id, "--", command, "argument").ended()
    assert ended == code
    assert f"{command} cannot be run" in err
    assert not (await admin.stacks.get(stack.id)).active_run_id


async def test_a_refusal_is_125_and_runs_nothing(served: House, tmp_path: Path) -> None:
    made = tmp_path / "made"
    code, out, err = await Command(served, "stack", "hold", "no-such-stack", "--", f"touch {made}").ended()
    assert (code, out) == (125, "")
    assert err.startswith("interlock: no stack 'no-such-stack'")
    assert not made.exists()


async def test_ctrl_c_while_it_waits_leaves_the_queue(served: House, admin: Client, tmp_path: Path) -> None:
    stack = await new_stack(admin)
    made = tmp_path / "made"
    async with admin.slots.hold(stack.id, purpose="a deploy"):
        command = Command(served, "stack", "hold", stack.id, "--", f"touch {made}")
        await command.says("(a deploy)")
        command.process.send_signal(signal.SIGINT)
        code, _, err = await command.ended()
        queued = (await admin.stacks.get(stack.id)).queued_runs
    assert (code, queued) == (130, 0)
    assert "not waited for any more" in err
    assert not made.exists()


async def test_who_may_not_wait_longer_is_told_so(served: House, admin: Client) -> None:
    stack = await new_stack(admin)
    async with admin.slots.hold(stack.id):
        command = Command(served, "stack", "hold", stack.id, "--queue-timeout", "1s", "--", "echo never")
        code, out, err = await command.ended()
    assert (code, out) == (125, "")
    assert "the slot had not come to it within 1 s" in err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_goes_to_the_command_and_the_slot_is_held_until_it_has_ended(
    served: House, admin: Client, tmp_path: Path, number: signal.Signals
) -> None:
    stack = await new_stack(admin)
    script = ON_TERM.replace("TERM", number.name.removeprefix("SIG"))
    command = await held(served, stack, tmp_path, script=script)
    command.process.send_signal(number)
    await command.prints("got it")
    await command.says("is held until it has ended")
    assert (await admin.stacks.get(stack.id)).active_run_id
    end(tmp_path, 5)
    assert (await command.ended())[0] == 5
    assert not (await admin.stacks.get(stack.id)).active_run_id


async def test_a_lease_that_cannot_be_renewed_is_told_and_the_command_goes_on(
    served: House, admin: Client, tmp_path: Path
) -> None:
    stack = await new_stack(admin)
    command = await held(served, stack, tmp_path, "--lease", "3s")
    served.server.signal(signal.SIGSTOP)
    try:
        await command.says("WARNING: the hold on")
        await command.says("even then the slot stays yours")
    finally:
        served.server.signal(signal.SIGCONT)
    await command.says("renewed again")
    end(tmp_path)
    assert (await command.ended())[0] == 0
    assert not (await admin.stacks.get(stack.id)).active_run_id


async def test_a_hold_that_is_taken_away_is_told_and_is_no_success(
    served: House, admin: Client, tmp_path: Path
) -> None:
    stack = await new_stack(admin)
    command = await held(served, stack, tmp_path, "--lease", "3s")
    [run_id] = [(await admin.stacks.get(stack.id)).active_run_id]
    # The command has the key of the same admin: its own word, from elsewhere.
    await admin.slots.release(run_id)
    await command.says("WARNING: the command goes on, and another may run beside it now")
    end(tmp_path)
    assert (await command.ended())[0] == 125


async def test_a_killed_holder_leaves_its_hold_expired_until_somebody_lets_go(
    served: House, admin: Client, tmp_path: Path
) -> None:
    stack = await new_stack(admin)
    command = await held(served, stack, tmp_path, "--lease", "1s", "-m", "a move")
    run_id = (await admin.stacks.get(stack.id)).active_run_id
    command.process.kill()
    task = await admin.runs.create_task(stack.id, "true")
    await reached(admin, run_id, "EXPIRED")
    shown = (await Command(served, "stack", "show", stack.id).ended())[1]
    listed = (await Command(served, "stack", "list").ended())[1]
    waiting = (await admin.runs.get(task.id)).waiting.message
    code, _, err = await Command(served, "stack", "release", stack.id).ended()
    end(tmp_path)
    assert f"{run_id}, admin's hold, expired since" in shown
    assert f"{run_id} (hold, expired)" in listed
    assert "admin or an admin has to let go" in waiting
    assert (code, "is free" in err) == (0, True)
    assert (await watch(admin, run_id)).state == "FINISHED"
    await until(lambda: command.process.poll() is not None, "the killed command")


async def test_nothing_is_let_go_of_where_nobody_holds(served: House, admin: Client) -> None:
    stack = await new_stack(admin)
    code, _, err = await Command(served, "stack", "release", stack.id).ended()
    assert code == 2
    assert "it is free" in err
