"""The kinds of policy: what each one defines and may call by a short name."""

from __future__ import annotations

import enum

# True where the author asks that the input be kept; every kind may define it.
SAMPLE_RULE = "sample"
# A login policy's set of teams, in place of those that the key has.
TEAM_RULE = "team"
# Sets of spaces in which a login policy gives a role; Interlock has one space, `root`.
SPACE_ADMIN_RULE = "space_admin"
SPACE_RULES = frozenset({SPACE_ADMIN_RULE, "space_write", "space_read"})


class Kind(enum.Enum):
    """The value is the kind's name in Rego, in schemas/ and in the API."""

    TASK = "task"
    ACCESS = "access"
    APPROVAL = "approval"
    LOGIN = "login"

    @property
    def rules(self) -> frozenset[str]:
        """The rules of the contract, which count."""
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
        """Rules that are read, too, where a policy defines them."""
        match self:
            case Kind.LOGIN:
                return SPACE_RULES | {TEAM_RULE, SAMPLE_RULE}
            case Kind.TASK | Kind.ACCESS | Kind.APPROVAL:
                return frozenset({SAMPLE_RULE})

    @property
    def needed_rules(self) -> frozenset[str]:
        """A policy defines at least one of them."""
        return self.rules | self.further_rules - {SAMPLE_RULE}

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
