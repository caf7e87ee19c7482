"""The kinds of policy: what each one defines and may call by a short name."""

from __future__ import annotations

import enum

# True where the author asks that the input be kept; every kind may define it.
SAMPLE_RULE = "sample"
# A login policy's set of teams, in place of those that the key has.
TEAM_RULE = "team"


class Kind(enum.Enum):
    """The value is the kind's name in Rego, in schemas/ and in the API."""

    TASK = "task"
    ACCESS = "access"
    APPROVAL = "approval"
    LOGIN = "login"

    @property
    def rules(self) -> frozenset[str]:
        """The rules that count; a policy defines at least one of them."""
        match self:
            case Kind.TASK:
                return frozenset({"deny"})
            case Kind.ACCESS:
                return frozenset({"read", "write", "deny", "deny_write"})
            case Kind.APPROVAL:
                return frozenset({"approve", "reject"})
            case Kind.LOGIN:
                return frozenset({"allow", "admin", "deny", "deny_admin"})

    @property
    def further_rules(self) -> frozenset[str]:
        """Rules that are read where a policy defines them, and need not be there."""
        match self:
            case Kind.LOGIN:
                return frozenset({TEAM_RULE, SAMPLE_RULE})
            case Kind.TASK | Kind.ACCESS | Kind.APPROVAL:
                return frozenset({SAMPLE_RULE})

    @property
    def aliases(self) -> frozenset[str]:
        """Parts of the input that a policy may use without `input.`."""
        match self:
            case Kind.TASK | Kind.ACCESS:
                return frozenset({"request", "session", "stack"})
            case Kind.APPROVAL:
                return frozenset({"reviews", "run", "stack"})
            case Kind.LOGIN:
                return frozenset({"request", "session"})
