"""The script of a run: what its container's shell reads from standard input. Pure; text in, bytes out.

The container's main process is one fixed line of shell that reads blocks of script and evaluates them, so
that a container can wait, warm, for any run, and nothing of a run is in the container's config. Works with
busybox sh, dash and bash. What it promises:

- Hooks and init commands run in one shell, one after another, so what they export is there for the command.
  Neither they nor the command can break the frame: text is quoted, the phases run in a subshell, and `exit`
  in a hook, a syntax error or a redirection of its output ends that step and no more.
- The command is `sh -c COMMAND`, performed only after the gate's token was read, and only if all before it
  succeeded.
- All of them have /dev/null as standard input, and write stderr into stdout.
- The container's exit code is the result: the command's, or that of the first step that failed; 125 when the
  gate was refused, or a hook left the shell by `exit 0` before the end.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from runner.errors import ScriptRefused
from runner.phases import Phase, Step, mark
from runner.secret import Secret

WORKSPACE = "/mnt/workspace"
SOURCE = f"{WORKSPACE}/source"
HOME = f"{WORKSPACE}/home"
SCRATCH = f"{WORKSPACE}/scratch"
"""For images without a /tmp that uid 1983 can write."""
PLAN = f"{WORKSPACE}/plan"
"""What a tracked run's plan leaves, in files of these names."""
PLAN_FILE = "plan"
PLAN_JSON = "plan.json"
NO_CHANGES = "no-changes"

# `read` takes bytes one by one, so nothing behind a block is swallowed: the gate's token stays there.
# Its variables are among the script's own: a stack may have one of any other name.
_READ_BLOCKS = (
    "exec 2>&1\n"
    "while :; do __interlock_s=; while IFS= read -r __interlock_l || exit 125; "
    '[ "$__interlock_l" != "$0" ]; do __interlock_s=$__interlock_s$__interlock_l\'\n\'; done; '
    'eval "$__interlock_s"; done'
)
# Appending lines to a block costs its length each time; 8 KiB keeps 1 MB under 0.6 s in every shell.
_BLOCK_CHARS = 8192
# What is longer is not quoted in place but put together in a variable, block by block.
_INLINE_CHARS = 512

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Assigning to these ends a shell (readonly, or only numbers allowed); the rest are the script's own.
_TAKEN_NAMES = frozenset(
    {"BASHOPTS", "BASH_VERSINFO", "EUID", "LINENO", "OPTIND", "PPID", "SHELLOPTS", "UID"}
)
_OWN_PREFIX = "__interlock_"

_STEP_FRAME = """\
command echo {mark}
{{ {run}; }} </dev/null >&9 2>&1 9>&-
{{ __interlock_code=$?; set +xv; }} 2>/dev/null
"""
_STOP_AT_FAILURE = '[ "$__interlock_code" = 0 ] || exit "$__interlock_code"\n'
_GO_ON_AT_FAILURE = '[ "$__interlock_code" = 0 ] || __interlock_failed=$__interlock_code\n'

# The subshell tells the outer shell by signals how far it came: variables do not cross, exit codes are taken.
_FRAME = """\
unset __interlock_s __interlock_l TINI_KILL_PROCESS_GROUP
exec 9>&1
cd {project_root} || exit 125
__interlock_done=; __interlock_performing=; __interlock_stopped=
trap '__interlock_done=1' USR1
trap '__interlock_performing=1' USR2
trap '__interlock_stopped=1' TERM
command echo {begin_initializing}
(
{initialization}\
{middle}\
{performance}\
command kill -USR1 $$
)
__interlock_code=$?
[ "$__interlock_code" != 0 ] || [ "$__interlock_done" ] || __interlock_code=125
command echo {end}"$__interlock_code"
INTERLOCK_RUN_STATE=FAILED
[ "$__interlock_code" != 0 ] || INTERLOCK_RUN_STATE=FINISHED
[ "$__interlock_performing" ] || [ -z "$__interlock_stopped" ] || INTERLOCK_RUN_STATE=STOPPED
export INTERLOCK_RUN_STATE
{after_run}\
exit "$__interlock_code"
"""
_GATE = """\
command echo {gate}
IFS= read -r __interlock_go && [ "$__interlock_go" = {gate_token} ] || exit 125
command kill -USR2 $$
command echo {begin_performing}
"""
# A run whose plan is to be applied is not over.
_IF_OVER = """\
if [ "$__interlock_code" != 0 ] || [ -e {no_changes} ]; then
{after_run}\
fi
"""
_AFTER_RUN_FRAME = """\
command echo {begin}
(
__interlock_failed=0
{hooks}\
exit "$__interlock_failed"
)
command echo {end}"$?"
"""


@dataclass(frozen=True, kw_only=True)
class Hooks:
    """Shell commands around the phases; those of a phase run in its shell, in order."""

    before_init: tuple[str, ...] = ()
    after_init: tuple[str, ...] = ()
    before_perform: tuple[str, ...] = ()
    after_perform: tuple[str, ...] = ()
    """Not run after a command that failed."""
    before_plan: tuple[str, ...] = ()
    after_plan: tuple[str, ...] = ()
    before_apply: tuple[str, ...] = ()
    after_apply: tuple[str, ...] = ()
    after_run: tuple[str, ...] = ()
    """Always run, all of them, with INTERLOCK_RUN_STATE set to FINISHED, FAILED or STOPPED."""


@dataclass(frozen=True, kw_only=True)
class RunScript:
    """What one run does in its container."""

    command: str = ""
    """Of a task."""
    plan: tuple[str, ...] = ()
    """Of a tracked run's plan, which has no gate."""
    apply: tuple[str, ...] = ()
    """Of a tracked run's apply, behind the gate, in place of a command."""
    init: tuple[str, ...] = ()
    """The tool's own, from runner/tools.py."""
    skip_initialization: bool = False
    """Leaves out init and the hooks around it."""
    hooks: Hooks = Hooks()
    project_root: str = ""
    """Below the source, "" for its top."""
    defaults: Mapping[str, str] = field(default_factory=dict)
    """The tool's variables; the stack's own come after them and win."""
    variables: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    """Win over plain variables of the same name."""
    run_variables: Mapping[str, str] = field(default_factory=dict)
    """INTERLOCK_*, about the run; they win over all others."""

    def render(self, *, end_line: str, nonce: str, gate_token: str) -> bytes:
        """The bytes for standard input. Raises `ScriptRefused` for what a shell cannot be given."""
        return _Renderer(end_line, nonce).render(self, gate_token)


def main_process(end_line: str) -> list[str]:
    """The container's main process. A line that is `end_line` ends a block of script."""
    return ["sh", "-c", _READ_BLOCKS, end_line]


def new_end_line() -> str:
    """Nobody can have put it into a command before it was made."""
    return f"end-{secrets.token_hex(16)}"


def new_gate_token() -> str:
    return secrets.token_hex(16)


def gate_line(gate_token: str) -> bytes:
    """What opens the gate. Sent twice it does no harm."""
    return gate_token.encode() + b"\n"


def is_variable_name(name: str) -> bool:
    """Whether a stack's variable may have this name."""
    return bool(_NAME.fullmatch(name)) and name not in _TAKEN_NAMES and not name.startswith(_OWN_PREFIX)


def quote(text: str) -> str:
    """Text as one word of shell."""
    return "'" + text.replace("'", "'\\''") + "'"


class _Renderer:
    def __init__(self, end_line: str, nonce: str) -> None:
        self._end_line = end_line
        self._nonce = nonce
        self._blocks: list[str] = []
        self._block = ""
        self._long_texts = 0

    def render(self, script: RunScript, gate_token: str) -> bytes:
        for name, value in _environment(script).items():
            self._add(f"export {name}={self._word(value, f'variable {name}')}\n")
        # An image may have no /tmp, or one that uid 1983 cannot write.
        self._add(f'[ -n "$TMPDIR" ] || [ -w /tmp ] || export TMPDIR={SCRATCH}\n')
        frame = self._frame(script, gate_token)
        self._flush()
        self._blocks.append(frame)
        text = "".join(f"{block}{self._end_line}\n" for block in self._blocks)
        if text.count(self._end_line) != len(self._blocks):
            raise ScriptRefused("the end line of the container's script occurs in the run's own text")
        return text.encode()

    def _frame(self, script: RunScript, gate_token: str) -> str:
        hooks = script.hooks
        initialization = "".join(
            () if script.skip_initialization else (
                *self._steps(Step.BEFORE_INIT, hooks.before_init),
                *self._steps(Step.INIT, script.init),
                *self._steps(Step.AFTER_INIT, hooks.after_init),
            )
        )  # fmt: skip
        middle = _GATE.format(
            gate=self._mark("gate"),
            gate_token=quote(gate_token),
            begin_performing=self._mark(f"begin {Phase.PERFORMING}"),
        )
        after_run = self._after_run(hooks.after_run)
        if script.plan:
            middle = f"command echo {self._mark(f'begin {Phase.PLANNING}')}\n"
            if after_run:
                after_run = _IF_OVER.format(no_changes=f"{PLAN}/{NO_CHANGES}", after_run=after_run)
        return _FRAME.format(
            project_root=self._word(f"{SOURCE}/{script.project_root}", "the project root"),
            begin_initializing=self._mark(f"begin {Phase.INITIALIZING}"),
            initialization=initialization,
            middle=middle,
            performance="".join(self._performance(script)),
            end=self._mark("end "),
            after_run=after_run,
        )

    def _performance(self, script: RunScript) -> Iterator[str]:
        hooks = script.hooks
        if script.plan:
            yield from self._steps(Step.BEFORE_PLAN, hooks.before_plan)
            yield from self._steps(Step.PLAN, script.plan)
            yield from self._steps(Step.AFTER_PLAN, hooks.after_plan)
        elif script.apply:
            yield from self._steps(Step.BEFORE_APPLY, hooks.before_apply)
            yield from self._steps(Step.APPLY, script.apply)
            yield from self._steps(Step.AFTER_APPLY, hooks.after_apply)
        else:
            yield from self._steps(Step.BEFORE_PERFORM, hooks.before_perform)
            command = self._word(script.command, "the command")
            yield self._step(Step.COMMAND, 0, f"sh -c -- {command}") + _STOP_AT_FAILURE
            yield from self._steps(Step.AFTER_PERFORM, hooks.after_perform)

    def _after_run(self, commands: tuple[str, ...]) -> str:
        if not commands:
            return ""
        return _AFTER_RUN_FRAME.format(
            begin=self._mark(f"begin {Phase.FINISHING}"),
            hooks="".join(self._steps(Step.AFTER_RUN, commands, at_failure=_GO_ON_AT_FAILURE)),
            end=self._mark("end "),
        )

    def _steps(
        self, step: Step, commands: tuple[str, ...], at_failure: str = _STOP_AT_FAILURE
    ) -> Iterator[str]:
        for index, command in enumerate(commands):
            word = self._word(command, f"{step} command {index + 1}")
            # The space keeps a command that begins with `-` from being an option of eval's.
            yield self._step(step, index, f'eval " "{word}') + at_failure

    def _step(self, step: Step, index: int, run: str) -> str:
        return _STEP_FRAME.format(mark=self._mark(f"step {step} {index}"), run=run)

    def _mark(self, text: str) -> str:
        return quote(mark(self._nonce, text))

    def _word(self, text: str, what: str) -> str:
        _check_text(text, what)
        if len(text) <= _INLINE_CHARS:
            return quote(text)
        self._long_texts += 1
        name = f"{_OWN_PREFIX}text_{self._long_texts}"
        self._add(f"{name}=\n")
        for start in range(0, len(text), _BLOCK_CHARS):
            self._add(f"{name}=${name}{quote(text[start : start + _BLOCK_CHARS])}\n")
        return f'"${name}"'

    def _add(self, statement: str) -> None:
        if len(self._block) + len(statement) > _BLOCK_CHARS:
            self._flush()
        self._block += statement

    def _flush(self) -> None:
        if self._block:
            self._blocks.append(self._block)
            self._block = ""


def _environment(script: RunScript) -> dict[str, str]:
    revealed = {name: secret.reveal() for name, secret in script.secrets.items()}
    for name in (*script.variables, *revealed):
        if not is_variable_name(name):
            raise ScriptRefused(f"{name!r} cannot be the name of a variable")
    own = {"HOME": HOME, "NO_COLOR": "1"}
    return own | dict(script.defaults) | dict(script.variables) | revealed | dict(script.run_variables)


def _check_text(text: str, what: str) -> None:
    if "\0" in text:
        raise ScriptRefused(f"{what} contains a NUL byte, which no shell can take")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ScriptRefused(f"{what} is not valid Unicode") from error
