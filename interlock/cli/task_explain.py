"""`interlock task run --dry-run`: may I run this here, and which policy says what?"""

from interlock import enums
from interlock.cli import decision, show
from interlock.sync import Client
from interlock.types import ExplainTaskResponse, RunState


def explain(client: Client, stack_id: str, command: str, output: show.Format) -> bool:
    """Prints the answer; returns whether the task would be created."""
    answer = client.runs.explain_task(stack_id, command)
    show.record(answer, _fields(answer), output)
    return answer.allowed


def _fields(answer: ExplainTaskResponse) -> dict[str, str]:
    verdicts = [*answer.decision.verdicts, *answer.approval.verdicts]
    return {
        "allowed": "yes" if answer.allowed else "no",
        "state": enums.name(RunState, answer.state) if answer.state else "",
        "why": answer.outcome,
        **{decision.named(verdict): decision.said(verdict) for verdict in verdicts},
        "policies": "" if verdicts else "none applies",
    }
