"""The kinds of policy: what each one defines and may call by a short name."""

from __future__ import annotations

import enum

# True where the author asks that the input be kept; every kind may define it.
SAMPLE_RULE = "sample"


class Kind(enum.Enum):
    """The value is the kind's name in Rego, in schemas/ and in the API."""

    TASK = "task"
    ACCESS = "access"

    @property
    def rules(self) -> frozenset[str]:
        """The rules that count; a policy defines at least one of them."""
        match self:
            case Kind.TASK:
                return frozenset({"deny"})
            case Kind.ACCESS:
                return frozenset({"read", "write", "deny", "deny_write"})

    @property
    def aliases(self) -> frozenset[str]:
        """Parts of the input that a policy may use without `input.`."""
        match self:
            case Kind.TASK | Kind.ACCESS:
                return frozenset({"request", "session", "stack"})
