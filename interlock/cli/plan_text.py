"""A tracked run's plan in a line of text."""

from interlock.cli import show
from interlock.types import PlanSummary, Run


def described(summary: PlanSummary) -> str:
    """One line about a plan."""
    if not summary.has_changes:
        return "no changes"
    if not summary.is_counted:
        return "changes, which the tool did not count"
    imported = f", {summary.imported} to import" if summary.imported else ""
    return f"{summary.add} to add, {summary.change} to change, {summary.destroy} to destroy{imported}"


def fields_of(run: Run) -> dict[str, str]:
    """What `show` adds for a tracked run."""
    by = run.confirmation.caller.login or "nobody: it was started to be"
    note = f": {run.confirmation.note}" if run.confirmation.note else ""
    confirmed = f"{by}, {show.when(run.confirmation.confirm_time)}{note}"
    return {
        "plan": described(run.plan) if run.HasField("plan") else "",
        "confirmed by": confirmed if run.HasField("confirmation") else "",
    }
