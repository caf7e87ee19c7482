"""The order on one stack. Pure: callers take turns there, each with the oldest of its runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Contender:
    """One caller's lane on a stack."""

    creator_id: str
    caller_login: str
    pending: int
    # When it last had this stack's slot, and a runner of the stack's pool; 0: never.
    served_at: int
    turn_at: int
    # Since when it waits for the slot: since its first run was queued, or since it last had it.
    waits_since: int
    # The oldest of its queued runs, and whether that is a hold, which needs no runner.
    run_id: str
    is_hold: bool = False

    @property
    def rank(self) -> tuple[int, int, str]:
        """The least goes first, as far as can be told. Two that never had the slot: who last had a runner earlier."""
        return self.served_at, self.turn_at, self.run_id


def next_on_stack(caller_login: str, contenders: Sequence[Contender]) -> Contender | None:
    """Who gets the slot when it is this caller's turn in the pool: the caller, unless somebody has waited for this very
    slot since before the caller last had it. So nobody gets it twice while another waits. A hold that is first on the
    stack goes before them: it has no turn in the pool."""
    mine = min((each for each in contenders if each.caller_login == caller_login), key=_rank, default=None)
    if mine is None:
        return None
    foremost = first(contenders)
    if foremost is not None and foremost.is_hold:
        return foremost
    owed = [each for each in contenders if each.waits_since < mine.served_at]
    return min(owed, key=lambda each: (each.waits_since, each.run_id), default=mine)


def first(contenders: Sequence[Contender]) -> Contender | None:
    """Who is first on the stack, whosever turn it is in the pool: what a place in the queue is counted from."""
    return min(contenders, key=_rank, default=None)


def ahead(mine: Contender, before_in_lane: int, contenders: Sequence[Contender]) -> int:
    """How many queued runs of the stack start before the one that has `before_in_lane` before it in its own lane.

    In each round every lane gives one run, until it is empty.
    """
    count = before_in_lane
    for other in contenders:
        if other.creator_id != mine.creator_id:
            count += min(other.pending, before_in_lane + (other.rank < mine.rank))
    return count


def _rank(contender: Contender) -> tuple[int, int, str]:
    return contender.rank
