"""Errors as a person reads them: what was wrong, where, and what to do."""

from collections.abc import Iterator

from interlock import errors
from interlock.cli import show
from interlock.types import PolicyFinding, PolicyFindingSeverity

RETRY_HINT = "try again; if it stays so, ask whoever operates the control plane"


def report(error: errors.InterlockError) -> None:
    """Prints it on standard error."""
    for line in "\n".join(lines(error)).splitlines():
        show.note(line)


def lines(error: errors.InterlockError) -> Iterator[str]:
    yield f"interlock: {_sentence(error)}"
    yield from _where(error)
    if hint := _hint(error):
        yield f"  {hint}"


def _sentence(error: errors.InterlockError) -> str:
    match error:
        case errors.Unavailable() if not error.reason:
            return f"the control plane does not answer: {error}"
        case errors.TaskDenied():
            by = f" by {', '.join(error.policies)}" if error.policies else ""
            return f"denied{by}: {'; '.join(error.messages) or error}"
        case errors.PolicyRefused() if error.findings:
            return "the policy's text is not acceptable; nothing was changed"
        case errors.PolicyFailed() if error.policy_name:
            return f"policy {error.policy_name} could not be evaluated, so the answer is no: {error.cause}"
        case _:
            return str(error)


def _where(error: errors.InterlockError) -> Iterator[str]:
    match error:
        case errors.PolicyRefused():
            for finding in error.findings:
                yield from of_finding(finding)
        case errors.InvalidArgument():
            for violation in error.violations:
                if violation.description not in str(error):
                    yield f"  {violation.field}: {violation.description}"
        case errors.PermissionDenied() | errors.PolicyFailed() if error.decision_id:
            yield f"  decision {error.decision_id}; see it with: interlock decision show {error.decision_id}"
        case errors.StackLocked():
            yield f"  locked at {error.lock_time:%Y-%m-%d %H:%M} UTC by {error.owner.login}: {error.note or '-'}"
        case _:
            return


def of_finding(finding: PolicyFinding) -> Iterator[str]:
    """As `interlock policy check` shows it."""
    known = [str(number) for number in (finding.line, finding.column) if number]
    is_advice = finding.severity == PolicyFindingSeverity.POLICY_FINDING_SEVERITY_WARNING
    advice = "warning: " if is_advice else ""
    yield f"{':'.join([finding.file, *known])}: {advice}{finding.message}"
    if finding.hint:
        yield f"  {finding.hint}"


def _hint(error: errors.InterlockError) -> str:  # noqa: PLR0911  # one line for each class
    match error:
        case errors.Unavailable() if not error.reason:
            return "is it running, and is the address right? `interlock dev` starts one on this machine"
        case errors.Unavailable():
            return RETRY_HINT
        case errors.BadCredentials() | errors.TokenRefused():
            return "store another API key with `interlock login`, or set INTERLOCK_API_KEY"
        case errors.StackLocked():
            return f"ask them to run: interlock stack unlock {error.stack_id}"
        case errors.StackBusy():
            return "see what runs with: interlock task list --stack STACK"
        case errors.SourceUnavailable():
            return "upload the stack's files with: interlock stack push STACK DIRECTORY"
        case errors.StaleEtag() | errors.ChangedMeanwhile():
            return "somebody else changed it at the same time; look at it and repeat the command"
        case errors.Internal():
            return "this is a fault of Interlock; its log says more under the id above"
        case _:
            return ""
