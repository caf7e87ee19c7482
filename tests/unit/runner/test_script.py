"""The phase script in real shells: busybox sh, dash and bash, as processes of this machine."""

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from runner import script as script_module
from runner.errors import ScriptRefused
from runner.phases import (
    GateReached,
    Phase,
    PhaseBegan,
    PhaseEnded,
    PhaseEvent,
    PhaseSplitter,
    Step,
    StepBegan,
)
from runner.script import Hooks, RunScript, gate_line, main_process
from runner.secret import Secret

NONCE = "0123456789abcdef0123456789abcdef"
END = "end-of-block"
TOKEN = "open-sesame"
GO = gate_line(TOKEN)
SAY_STATE = "echo $INTERLOCK_RUN_STATE"


@dataclass(frozen=True)
class Ended:
    exit_code: int
    output: str
    events: list[PhaseEvent]

    @property
    def said(self) -> str:
        """The output without the word by which dash and busybox tell that a child was terminated."""
        return self.output.replace("Terminated\n", "")

    @property
    def last_step(self) -> StepBegan:
        return [event for event in self.events if isinstance(event, StepBegan)][-1]

    @property
    def was_performing(self) -> bool:
        return PhaseBegan(Phase.PERFORMING) in self.events


@pytest.fixture(params=["busybox", "dash", "bash"])
def shell(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for PATH in which `sh` is one of the shells; the source is a folder beside it."""
    path = shutil.which(request.param)
    assert path, f"{request.param} is not installed: apt-get install busybox-static dash bash"
    binaries = tmp_path / "bin"
    binaries.mkdir()
    (binaries / "sh").symlink_to(path)
    (tmp_path / "source").mkdir()
    monkeypatch.setattr(script_module, "SOURCE", str(tmp_path / "source"))
    return binaries


def perform(
    shell: Path, script: RunScript, answer: bytes = GO, environment: Mapping[str, str] | None = None
) -> Ended:
    stdin = script.render(end_line=END, nonce=NONCE, gate_token=TOKEN) + answer
    done = subprocess.run(
        main_process(END),
        executable=shell / "sh",
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={"PATH": f"{shell}:{os.environ['PATH']}"} | dict(environment or {}),
        timeout=60,
        check=False,
    )
    return ended(done.returncode, done.stdout)


def ended(exit_code: int, stdout: bytes) -> Ended:
    splitter = PhaseSplitter(NONCE)
    pieces = splitter.feed(stdout) + splitter.finish()
    output = b"".join(piece for piece in pieces if isinstance(piece, bytes))
    return Ended(exit_code, output.decode(), [piece for piece in pieces if not isinstance(piece, bytes)])


def test_steps_run_in_order_and_their_marks_tell_it(shell: Path) -> None:
    hooks = Hooks(
        before_init=("echo 1", "echo 2"), after_init=("echo 4",),
        before_perform=("echo 5",), after_perform=("echo 7",), after_run=("echo 8 $INTERLOCK_RUN_STATE",),
    )  # fmt: skip
    result = perform(shell, RunScript(command="echo 6", init=("echo 3",), hooks=hooks))
    assert (result.exit_code, result.output) == (0, "1\n2\n3\n4\n5\n6\n7\n8 FINISHED\n")
    assert result.events == [
        PhaseBegan(Phase.INITIALIZING),
        StepBegan(Step.BEFORE_INIT, 0),
        StepBegan(Step.BEFORE_INIT, 1),
        StepBegan(Step.INIT, 0),
        StepBegan(Step.AFTER_INIT, 0),
        PhaseEnded(Phase.INITIALIZING, 0),
        GateReached(),
        PhaseBegan(Phase.PERFORMING),
        StepBegan(Step.BEFORE_PERFORM, 0),
        StepBegan(Step.COMMAND, 0),
        StepBegan(Step.AFTER_PERFORM, 0),
        PhaseEnded(Phase.PERFORMING, 0),
        PhaseBegan(Phase.FINISHING),
        StepBegan(Step.AFTER_RUN, 0),
        PhaseEnded(Phase.FINISHING, 0),
    ]


def test_the_exit_code_is_the_command_s(shell: Path) -> None:
    result = perform(shell, RunScript(command="echo before; exit 3; echo after"))
    assert (result.exit_code, result.output) == (3, "before\n")
    assert result.events[-1] == PhaseEnded(Phase.PERFORMING, 3)


def test_a_command_that_looks_like_an_option_is_a_command(shell: Path) -> None:
    result = perform(shell, RunScript(command="-x; echo on", init=("-y || echo init",)))
    assert result.output.endswith("on\n")
    assert "init\n" in result.output


def test_a_syntax_error_in_the_command_fails_the_command_only(shell: Path) -> None:
    result = perform(shell, RunScript(command="if; (", hooks=Hooks(after_run=("echo cleaned up",))))
    assert result.exit_code not in (0, 125)
    assert result.output.endswith("cleaned up\n")
    assert PhaseEnded(Phase.PERFORMING, result.exit_code) in result.events


@pytest.mark.parametrize("hook", ["false", "exit 1", "( exit 1 )", "set -e; false; echo on"])
def test_init_that_fails_keeps_the_command_from_being_performed(shell: Path, hook: str) -> None:
    result = perform(shell, RunScript(command="echo performed", init=(hook,)))
    assert (result.exit_code, result.output) == (1, "")
    assert result.events[-1] == PhaseEnded(Phase.INITIALIZING, 1)
    assert result.last_step == StepBegan(Step.INIT, 0)


@pytest.mark.parametrize(
    "hook",
    [
        "if",
        "'",
        "fi",
        ")",
        "exit 0",
        "return 0; exit 0",
        "exec true",
        "set -n",
        "kill -9 $(exec sh -c 'echo $PPID')",
    ],
)
def test_a_hook_that_breaks_or_leaves_the_shell_fails_the_run(shell: Path, hook: str) -> None:
    hooks = Hooks(before_init=(hook,), after_run=(SAY_STATE,))
    result = perform(shell, RunScript(command="echo performed", hooks=hooks))
    assert result.exit_code != 0
    assert not result.was_performing
    assert result.output.endswith("FAILED\n")
    assert "performed" not in result.output


@pytest.mark.parametrize(
    "hook",
    [
        *("exec >/dev/null 2>&1", "exec </etc/passwd", "exec 9>&-", "exec 9>/dev/null"),
        *("set -eu", "set -x", "set -v", "set -f", "IFS=abc", "cd /", "umask 077"),
        *("echo() { :; }; kill() { :; }", "alias echo=false", "trap : EXIT TERM USR1"),
        *("sleep 100 >/dev/null 2>&1 &", "true 2>/dev/null; : \\"),
    ],
)  # fmt: skip
def test_a_hook_that_changes_its_shell_does_not_disturb_the_frame(shell: Path, hook: str) -> None:
    hooks = Hooks(before_init=(hook, "true"), before_perform=(hook, "true"))
    result = perform(shell, RunScript(command="command echo performed", hooks=hooks))
    assert result.exit_code == 0
    assert result.output.endswith("performed\n")
    assert sum(isinstance(event, StepBegan) for event in result.events) == 5


def test_what_a_hook_exports_is_there_for_the_command(shell: Path) -> None:
    hooks = Hooks(before_init=("export FROM_HOOK='a  b'; cd ..",), before_perform=("export SECOND=2",))
    result = perform(shell, RunScript(command='echo "$FROM_HOOK" $SECOND $(basename "$PWD")', hooks=hooks))
    assert result.output.startswith("a  b 2 ")
    assert "source" not in result.output


def test_after_perform_is_left_out_after_a_failed_command_and_after_run_is_not(shell: Path) -> None:
    hooks = Hooks(after_perform=("echo not here",), after_run=(f"{SAY_STATE}; false", "echo second"))
    result = perform(shell, RunScript(command="exit 4", hooks=hooks))
    assert (result.exit_code, result.output) == (4, "FAILED\nsecond\n")
    assert result.events[-1] == PhaseEnded(Phase.FINISHING, 1)


def test_a_failed_after_perform_hook_fails_the_run_with_its_code(shell: Path) -> None:
    result = perform(shell, RunScript(command="true", hooks=Hooks(after_perform=("exit 9",))))
    assert result.exit_code == 9
    assert result.last_step == StepBegan(Step.AFTER_PERFORM, 0)


@pytest.mark.parametrize("answer", [b"", b"wrong\n", b"open-sesam\n", b"\n", b"open-sesame", GO.upper()])
def test_without_the_token_the_gate_stays_shut(shell: Path, answer: bytes) -> None:
    result = perform(shell, RunScript(command="echo performed", init=("echo init",)), answer)
    assert (result.exit_code, result.output) == (125, "init\n")
    assert result.events[-1] == GateReached()


def test_a_token_sent_twice_does_no_harm(shell: Path) -> None:
    result = perform(shell, RunScript(command="cat; echo performed"), GO + GO)
    assert (result.exit_code, result.output) == (0, "performed\n")


def test_skipped_initialization_leaves_out_init_and_its_hooks(shell: Path) -> None:
    hooks = Hooks(before_init=("echo no",), after_init=("echo no",), before_perform=("echo yes",))
    result = perform(
        shell, RunScript(command="true", init=("echo no",), hooks=hooks, skip_initialization=True)
    )
    assert (result.exit_code, result.output) == (0, "yes\n")
    assert GateReached() in result.events


def test_nobody_reads_the_script_s_standard_input(shell: Path) -> None:
    hooks = Hooks(before_init=("cat",), after_run=("cat",))
    result = perform(shell, RunScript(command="cat; read -r x; echo $?", init=("cat",), hooks=hooks))
    assert (result.exit_code, result.output) == (0, "1\n")


def test_stderr_goes_into_stdout_in_order(shell: Path) -> None:
    result = perform(shell, RunScript(command="echo 1; echo 2 >&2; echo 3", init=("echo 0 >&2",)))
    assert result.output == "0\n1\n2\n3\n"


NASTY = [
    *("it's", '"double" $HOME `id` $(id) \\', "line\nline\n", "\n\n", "\ttab\r\n", "ends in backslash\\"),
    *(END, f"\n {END}\n", "-n", "", "*", "~", "%s", "\x1e\x81\x88", "\U0001f600 ÁÀ"),
    "".join(chr(c) for c in range(1, 0x600)),
]  # fmt: skip


@pytest.mark.parametrize("text", NASTY)
def test_any_text_arrives_as_it_is_in_environment_hook_and_command(shell: Path, text: str) -> None:
    end_line = f"{END}-unique"
    script = RunScript(
        command='printf "%s|" "$PLAIN" "$SECRET" "$IN_HOOK" ' + script_module.quote(text),
        hooks=Hooks(before_init=("export IN_HOOK=" + script_module.quote(text),)),
        variables={"PLAIN": text},
        secrets={"SECRET": Secret(text)},
    )
    stdin = script.render(end_line=end_line, nonce=NONCE, gate_token=TOKEN) + GO
    environment = {"PATH": f"{shell}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        main_process(end_line),
        executable=shell / "sh",
        input=stdin,
        capture_output=True,
        env=environment,
        check=False,
    )
    assert ended(done.returncode, done.stdout).output == f"{text}|" * 4


def test_a_long_script_arrives_whole(shell: Path) -> None:
    lines = "\n".join("y" * 99 for _ in range(600))
    script = RunScript(
        command=f": '{lines}'\necho $((${{#V0}} + ${{#V9}}))", variables={f"V{i}": lines for i in range(10)}
    )
    result = perform(shell, script)
    assert (result.exit_code, result.output) == (0, f"{2 * len(lines)}\n")


def test_later_sources_of_variables_win(shell: Path) -> None:
    script = RunScript(
        command="echo $A $B $C $INTERLOCK_RUN_ID $NO_COLOR $HOME",
        defaults={"A": "default", "B": "default"},
        variables={"B": "plain", "C": "plain", "HOME": "/elsewhere", "INTERLOCK_RUN_ID": "forged"},
        secrets={"C": Secret("secret")},
        run_variables={"INTERLOCK_RUN_ID": "run_1"},
    )
    assert perform(shell, script).output == "default plain secret run_1 1 /elsewhere\n"


def test_the_command_starts_in_the_project_root(shell: Path, tmp_path: Path) -> None:
    root = tmp_path / "source" / "a dir" / "it's"
    root.mkdir(parents=True)
    result = perform(shell, RunScript(command="pwd", init=("pwd",), project_root="a dir/it's"))
    assert result.output == f"{root}\n" * 2


def test_the_engine_s_own_variable_is_not_passed_on(shell: Path) -> None:
    script = RunScript(command="echo ${TINI_KILL_PROCESS_GROUP-none}")
    assert perform(shell, script, environment={"TINI_KILL_PROCESS_GROUP": "1"}).output == "none\n"


def test_secrets_are_not_in_the_script_s_printed_form() -> None:
    assert "hunter22" not in repr(RunScript(command="true", secrets={"PASSWORD": Secret("hunter22")}))


@pytest.mark.parametrize("hook", ["echo started; exec sleep 60", "echo started; sleep 60"])
def test_a_terminated_init_is_stopped_and_after_run_is_told_so(shell: Path, hook: str) -> None:
    script = RunScript(command="echo performed", init=(hook,), hooks=Hooks(after_run=(SAY_STATE,)))
    assert terminate_after(shell, script, b"", b"started\n").said == "started\nSTOPPED\n"


def test_termination_at_the_gate_stops_the_run(shell: Path) -> None:
    script = RunScript(command="echo performed", hooks=Hooks(after_run=(SAY_STATE,)))
    assert terminate_after(shell, script, b"", b":gate\n").said == "STOPPED\n"


def test_termination_of_a_performing_command_fails_the_run(shell: Path) -> None:
    script = RunScript(command="echo on; exec sleep 60", hooks=Hooks(after_run=(SAY_STATE,)))
    result = terminate_after(shell, script, GO, b"on\n")
    assert (result.exit_code, result.said) == (143, "on\nFAILED\n")


def terminate_after(shell: Path, script: RunScript, answer: bytes, awaited: bytes) -> Ended:
    """Sends SIGTERM to the script's process group, as the container's init does, after `awaited`."""
    environment = {"PATH": f"{shell}:{os.environ['PATH']}"}
    with subprocess.Popen(
        main_process(END), executable=shell / "sh", stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env=environment, start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stdin
        assert process.stdout
        process.stdin.write(script.render(end_line=END, nonce=NONCE, gate_token=TOKEN) + answer)
        process.stdin.flush()
        output = b""
        while not output.endswith(awaited):
            byte = process.stdout.read(1)
            assert byte, output
            output += byte
        os.killpg(process.pid, signal.SIGTERM)
        output += process.stdout.read()
        exit_code = process.wait(timeout=20)
    return ended(exit_code, output)


@pytest.mark.parametrize(
    ("script", "named"),
    [
        (RunScript(command="a\0b"), "the command"),
        (RunScript(command="true", init=("a\0",)), "init command 1"),
        (RunScript(command="true", variables={"V": "\0"}), "variable V"),
        (RunScript(command="true", variables={"V": "\ud800"}), "variable V"),
        (RunScript(command="true", secrets={"S": Secret("\0")}), "variable S"),
        (RunScript(command="true", variables={"A-B": "x"}), "'A-B'"),
        (RunScript(command="true", variables={"": "x"}), "''"),
        (RunScript(command="true", variables={"A\n": "x"}), "A"),
        (RunScript(command="true", variables={"UID": "0"}), "'UID'"),
        (RunScript(command="true", secrets={"__interlock_code": Secret("0")}), "'__interlock_code'"),
        (RunScript(command=f"echo '\n{END}\n'"), "end line"),
    ],
)
def test_what_no_shell_can_take_is_refused_by_name(script: RunScript, named: str) -> None:
    with pytest.raises(ScriptRefused, match=named):
        script.render(end_line=END, nonce=NONCE, gate_token=TOKEN)
