"""The state machine of a run, as one table. Pure: what may follow what, and what each state means for the slot."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from interlock.v1 import run_pb2


class RunState(StrEnum):
    PENDING_REVIEW = "PENDING_REVIEW"
    QUEUED = "QUEUED"
    READY = "READY"
    PREPARING = "PREPARING"
    INITIALIZING = "INITIALIZING"
    PERFORMING = "PERFORMING"
    PLANNING = "PLANNING"
    UNCONFIRMED = "UNCONFIRMED"
    CONFIRMED = "CONFIRMED"
    APPLYING = "APPLYING"
    HELD = "HELD"
    EXPIRED = "EXPIRED"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    STOPPED = "STOPPED"
    DISCARDED = "DISCARDED"

    @property
    def is_final(self) -> bool:
        return not FOLLOWERS[self]

    @property
    def is_active(self) -> bool:
        """It holds its stack's slot."""
        return self in ACTIVE

    @property
    def has_passed_gate(self) -> bool:
        """Its command performs, its plan is applied, or somebody outside is at work: nothing but its own end ends it."""
        return self in BEHIND_GATE

    @property
    def may_stop(self) -> bool:
        """It holds the slot and has not passed its gate."""
        return self in ACTIVE and self not in BEHIND_GATE

    def to_proto(self) -> run_pb2.RunState.ValueType:
        return run_pb2.RunState.Value(f"RUN_STATE_{self.value}")


# A hold whose slot was received by whoever asked for it; EXPIRED: they have not been heard of for a whole lease.
LENT: Final = frozenset({RunState.HELD, RunState.EXPIRED})
BEHIND_GATE: Final = LENT | {RunState.PERFORMING, RunState.APPLYING}
# A tracked run keeps its slot from its plan to its apply; UNCONFIRMED has no runner, CONFIRMED not always.
TRACKED: Final = frozenset({RunState.PLANNING, RunState.UNCONFIRMED, RunState.CONFIRMED, RunState.APPLYING})
ACTIVE: Final = (
    LENT | TRACKED | {RunState.READY, RunState.PREPARING, RunState.INITIALIZING, RunState.PERFORMING}
)
WAITING: Final = frozenset({RunState.PENDING_REVIEW, RunState.QUEUED})

_LOST_OR_STOPPED: Final = frozenset({RunState.FAILED, RunState.STOPPED})

# Out of PERFORMING and APPLYING there are only ends, and into APPLYING leads only CONFIRMED: invariant 2 stands in
# this table.
FOLLOWERS: Final[Mapping[RunState, frozenset[RunState]]] = {
    RunState.PENDING_REVIEW: frozenset({RunState.QUEUED, RunState.FAILED, RunState.DISCARDED}),
    RunState.QUEUED: frozenset({RunState.READY, RunState.DISCARDED}),
    # Back to the queue only while no runner has accepted it. HELD: a hold, once it is confirmed.
    RunState.READY: frozenset({RunState.PREPARING, RunState.HELD, RunState.QUEUED, RunState.DISCARDED})
    | _LOST_OR_STOPPED,
    RunState.PREPARING: frozenset({RunState.INITIALIZING}) | _LOST_OR_STOPPED,
    RunState.INITIALIZING: frozenset({RunState.PERFORMING, RunState.PLANNING}) | _LOST_OR_STOPPED,
    RunState.PERFORMING: frozenset({RunState.FINISHED, RunState.FAILED}),
    # FINISHED: there is nothing to apply. CONFIRMED: it was started so, or its stack deploys by itself.
    RunState.PLANNING: frozenset({RunState.UNCONFIRMED, RunState.CONFIRMED, RunState.FINISHED})
    | _LOST_OR_STOPPED,
    # FAILED: an approval policy rejects the plan.
    RunState.UNCONFIRMED: frozenset({RunState.CONFIRMED, RunState.DISCARDED, RunState.FAILED}),
    RunState.CONFIRMED: frozenset({RunState.APPLYING}) | _LOST_OR_STOPPED,
    RunState.APPLYING: frozenset({RunState.FINISHED, RunState.FAILED}),
    RunState.HELD: frozenset({RunState.EXPIRED, RunState.FINISHED, RunState.FAILED}),
    # HELD: its owner is back, and nobody had the slot meanwhile.
    RunState.EXPIRED: frozenset({RunState.HELD, RunState.FINISHED, RunState.FAILED}),
    RunState.FINISHED: frozenset(),
    RunState.FAILED: frozenset(),
    RunState.STOPPED: frozenset(),
    RunState.DISCARDED: frozenset(),
}


class IllegalTransition(AssertionError):
    """A fault in Interlock, never a caller's: the transaction that tried it is rolled back."""


def check(before: RunState, after: RunState) -> None:
    """Raises IllegalTransition unless `after` may follow `before`."""
    if after not in FOLLOWERS[before]:
        raise IllegalTransition(f"a run cannot go from {before} to {after}")
