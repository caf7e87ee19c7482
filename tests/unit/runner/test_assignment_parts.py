"""Gate, outcome, environment and secrets: the parts of an assignment that need no engine."""

import asyncio
import time

import pytest

from interlock.v1 import run_pb2, stack_pb2
from interlock.v1.runner_service_pb2 import AssignmentRef, Job, JobSource, PinnedGit
from runner import outcome
from runner.engine import ContainerExit
from runner.environment import run_variables, script_of
from runner.errors import SecretRefused
from runner.gatekeeping import BeforeGate
from runner.job_secrets import masked, secrets_of
from runner.journal import Outcome, Result
from runner.phases import Phase

STOP = Result(outcome=Outcome.STOPPED, reason="a caller asked")
INITIALIZED = {Phase.INITIALIZING: 0}


def _gate(total_s: float = 60, silence_s: float = 60) -> BeforeGate:
    return BeforeGate("run_1", total_timeout_s=total_s, no_output_timeout_s=silence_s)


async def test_a_stop_cuts_short_what_is_before_the_gate() -> None:
    gate = _gate()
    asyncio.get_running_loop().call_soon(gate.interrupt, STOP)
    async with gate.interruptible():
        await asyncio.Event().wait()
    assert gate.interruption == STOP
    assert not gate.let_pass()


async def test_a_stop_that_came_before_anything_began_is_not_forgotten() -> None:
    gate = _gate()
    gate.interrupt(STOP)
    async with gate.interruptible():
        await asyncio.Event().wait()
    assert gate.interruption == STOP


async def test_nothing_interrupts_behind_the_gate() -> None:
    gate = _gate(total_s=0.05)
    async with gate.interruptible():
        gate.reach()
        assert gate.let_pass()
        gate.interrupt(STOP)
        await asyncio.sleep(0.1)
    assert gate.is_passed
    assert gate.interruption is None


async def test_no_time_out_holds_for_a_run_that_passed_its_gate_under_an_earlier_process() -> None:
    gate = _gate(total_s=0.05)
    assert gate.let_pass()
    async with gate.interruptible():
        await asyncio.sleep(0.1)
    assert gate.interruption is None


async def test_a_cancellation_from_outside_stays_one() -> None:
    gate = _gate()

    async def wait() -> None:
        async with gate.interruptible():
            await asyncio.Event().wait()

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert gate.interruption is None


async def test_a_timeout_error_of_the_run_itself_is_not_taken_for_the_gates() -> None:
    with pytest.raises(TimeoutError):
        async with _gate().interruptible():
            raise TimeoutError


async def test_silence_counts_from_the_last_output() -> None:
    gate = _gate(silence_s=0.2)
    last_output_s = time.monotonic() + 0.3
    begun = time.monotonic()
    async with gate.interruptible():
        await gate.watch_silence(lambda: last_output_s)
    assert time.monotonic() - begun >= 0.5
    assert gate.interruption is not None
    assert gate.interruption.outcome is Outcome.TIMED_OUT


@pytest.mark.parametrize(
    ("exit_code", "is_gate_passed", "phase_codes", "expected"),
    [
        (0, True, INITIALIZED | {Phase.PERFORMING: 0}, Outcome.EXITED),
        (137, True, INITIALIZED | {Phase.PERFORMING: 137}, Outcome.EXITED),
        (137, True, INITIALIZED, Outcome.CONTAINER_LOST),
        (0, True, INITIALIZED, Outcome.CONTAINER_LOST),
        (1, False, {Phase.INITIALIZING: 1}, Outcome.INITIALIZATION_FAILED),
        (0, False, {}, Outcome.INITIALIZATION_FAILED),
    ],
)
def test_the_exit_code_counts_only_where_the_script_came_to_its_end(
    exit_code: int,
    is_gate_passed: bool,
    phase_codes: dict[Phase, int],
    expected: Outcome,
) -> None:
    result = outcome.of_exit(
        ContainerExit(exit_code),
        is_gate_passed=is_gate_passed,
        has_begun=is_gate_passed,
        phase_codes=phase_codes,
        memory_bytes=1 << 30,
    )
    assert (result.outcome, result.exit_code) == (expected, exit_code)


def test_a_memory_limit_that_was_reached_is_named() -> None:
    result = outcome.of_exit(
        ContainerExit(137, out_of_memory=True),
        is_gate_passed=True,
        has_begun=True,
        phase_codes={},
        memory_bytes=64 << 20,
    )
    assert "memory limit of 64 MiB" in result.reason


def test_a_container_that_ended_between_its_gate_and_its_command_has_performed_nothing() -> None:
    result = outcome.of_exit(
        ContainerExit(137), is_gate_passed=True, has_begun=False, phase_codes={}, memory_bytes=1 << 30
    )
    assert result.outcome is Outcome.CONTAINER_LOST
    assert (
        result.reason == "the container was killed by signal 9 before the command began; it was not performed"
    )


def test_credentials_variables_and_files_are_secret_and_plain_ones_are_not() -> None:
    job = Job(
        variables=[
            stack_pb2.EnvironmentVariable(name="A", value="secret-variable", secret=True),
            stack_pb2.EnvironmentVariable(name="B", value="plain-variable"),
        ],
        files=[
            stack_pb2.MountedFile(path="a", content=b"secret-file", secret=True),
            stack_pb2.MountedFile(path="b", content=b"plain-file"),
            stack_pb2.MountedFile(path="c", content=b"", secret=True),
        ],
        source=JobSource(
            git=PinnedGit(
                credential=stack_pb2.GitCredential(password="pass-word", ssh_private_key="key-text")
            )
        ),
    )
    assert secrets_of(job) == [b"key-text", b"pass-word", b"secret-file", b"secret-variable"]


def test_a_secret_file_too_large_for_one_needle_is_masked_line_by_line() -> None:
    content = b"\n".join(b"line number %06d" % number for number in range(8000))
    job = Job(files=[stack_pb2.MountedFile(path="a", content=content, secret=True)])
    assert b"line number 007999" in secrets_of(job)


def test_a_secret_that_cannot_be_masked_is_refused_without_showing_it() -> None:
    job = Job(variables=[stack_pb2.EnvironmentVariable(name="PIN", value="xyz", secret=True)])
    with pytest.raises(SecretRefused, match="PIN") as refused:
        secrets_of(job)
    assert "xyz" not in refused.value.message
    assert "xyz" not in masked("failed with xyz", job)


def test_a_reason_shows_no_secret() -> None:
    job = Job(variables=[stack_pb2.EnvironmentVariable(name="A", value="secret-variable", secret=True)])
    assert masked("git said secret-variable", job) == "git said ***"


def test_the_run_is_described_to_its_command_and_secrets_stay_apart() -> None:
    job = Job(
        stack_id="network",
        command="true",
        tool=stack_pb2.TOOL_CUSTOM,
        run_type=run_pb2.RUN_TYPE_TASK,
        creator_login="ada",
        source=JobSource(git=PinnedGit(commit="c0ffee", ref="main"), project_root="live"),
        variables=[stack_pb2.EnvironmentVariable(name="A", value="secret-variable", secret=True)],
    )
    ref = AssignmentRef(run_id="run_1")
    variables = run_variables(job, ref)
    assert variables["INTERLOCK_RUN_ID"] == "run_1"
    assert variables["INTERLOCK_COMMIT"] == "c0ffee"
    assert variables["INTERLOCK_RUN_TYPE"] == "task"
    assert "secret-variable" not in repr(script_of(job, ref))
