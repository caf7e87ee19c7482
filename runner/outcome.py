"""How a run ended, told from its container's exit and from how far its script came. Pure."""

from __future__ import annotations

from runner.engine import ContainerExit
from runner.journal import Outcome, Result
from runner.phases import Phase

_SIGNALLED = 128
_NOT_FOUND = 127


def of_exit(
    ended: ContainerExit,
    *,
    is_gate_passed: bool,
    has_begun: bool,
    phase_codes: dict[Phase, int],
    memory_bytes: int,
    plans: bool = False,
) -> Result:
    """`has_begun`: the script told that it performs. `phase_codes`: the exit code of each phase that told its end.
    `plans`: it was to plan, and has no gate.
    """
    memory = (
        f"; its container went over its memory limit of {memory_bytes >> 20} MiB"
        if ended.out_of_memory
        else ""
    )
    code = ended.exit_code
    if is_gate_passed:
        if Phase.PERFORMING not in phase_codes:
            # The script did not come to its end, so nothing speaks for the command.
            cause = (
                f"was killed by signal {code - _SIGNALLED}"
                if code > _SIGNALLED
                else f"ended with exit code {code}"
            )
            when = (
                "while the command performed"
                if has_begun
                else "before the command began; it was not performed"
            )
            return Result(
                outcome=Outcome.CONTAINER_LOST, exit_code=code, reason=f"the container {cause} {when}{memory}"
            )
        reason = f"the command ended with exit code {code}{memory}" if code else ""
        return Result(outcome=Outcome.EXITED, exit_code=code, reason=reason)
    if plans and phase_codes.get(Phase.INITIALIZING) == 0:
        if code == 0 and Phase.PLANNING in phase_codes:
            return Result(outcome=Outcome.PLANNED, exit_code=code)
        return Result(
            outcome=Outcome.PLAN_FAILED,
            exit_code=code,
            reason=f"the plan ended with exit code {code}{memory}; nothing was applied",
        )
    if code == _NOT_FOUND and Phase.INITIALIZING not in phase_codes:
        return Result(
            outcome=Outcome.PREPARATION_FAILED,
            reason="the image has no `sh` on its PATH, which every run needs; the command was not performed",
        )
    return Result(
        outcome=Outcome.INITIALIZATION_FAILED,
        exit_code=code,
        reason=f"initialization ended with exit code {code}{memory}; the command was not performed",
    )


def of_gone_container(reason: str, *, is_gate_passed: bool) -> Result:
    if is_gate_passed:
        return Result(
            outcome=Outcome.CONTAINER_LOST, reason=f"{reason}; the command may have been performed in part"
        )
    return Result(outcome=Outcome.PREPARATION_FAILED, reason=f"{reason}; the command was not performed")
