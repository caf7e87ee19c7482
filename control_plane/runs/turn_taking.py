"""Which run of a pool is next, in one transaction: callers take turns, in a caller's turn its stacks do, and on a stack
again its callers. What is looked at is one lane per dispatch, however many wait, and one line per waiting caller.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from control_plane import clock
from control_plane.limits.caps import Caps
from control_plane.limits.limit import Kind
from control_plane.queue import lanes, order
from control_plane.queue.order import Contender


@dataclass(frozen=True, slots=True)
class Next:
    """A run whose stack's slot is free, and held for it until the transaction ends."""

    stack_id: str
    # Whose turn it is in the pool. On the stack it may be another's.
    turn_of: str
    contender: Contender


class TurnTaking:
    """Over one pool. `at_most`: how many runs are wanted."""

    def __init__(self, connection: sa.Connection, pool_id: str, caps: Caps, at_most: int) -> None:
        self._connection = connection
        self._pool_id: Final = pool_id
        self._caps = caps
        self._at_most: Final = at_most
        self._lines: dict[str, list[str]] = defaultdict(list)
        for line in lanes.open_lines(connection, pool_id):
            login, labels = lanes.split_line(line)
            if caps.full_label(labels) is None:
                self._lines[login].append(line)
        self._turns = lanes.turns_of(connection, pool_id, self._lines)
        self._waiting = [(self._turns.get(login, 0), login) for login in self._lines]
        heapq.heapify(self._waiting)
        self._stacks: dict[str, Iterator[str]] = {}
        self._had_turn: set[str] = set()

    def next(self) -> Next | None:
        """None: nothing can be started. What is returned is not returned again, whatever became of it."""
        while self._waiting and self._caps.reached(Kind.POOL, self._pool_id) is None:
            turn_at, login = self._waiting[0]
            if turn_at != self._turns.get(login, 0) or self._caps.reached(Kind.CALLER, login):
                # It has had a turn since, and stands further behind; or it may start nothing.
                heapq.heappop(self._waiting)
                continue
            stack_id = next(self._stacks_of(login), None)
            if stack_id is None:
                heapq.heappop(self._waiting)
                continue
            able = [
                contender
                for contender in lanes.claimable(self._connection, stack_id)
                if contender.is_hold or self._caps.reached(Kind.CALLER, contender.caller_login) is None
            ]
            if contender := order.next_on_stack(login, able):
                return Next(stack_id, login, contender)
        return None

    def served(self, run: Next) -> None:
        """It was given a runner of the pool. The turn was its caller's, and that of whoever gave the stack up to it."""
        now = max(clock.now_us(), 1 + max(self._turns.values(), default=0))
        for login in {run.turn_of, run.contender.caller_login}:
            self._turns[login] = now
            self._had_turn.add(login)
            if login in self._lines:
                heapq.heappush(self._waiting, (now, login))

    def settle(self) -> None:
        """Writes the turns down: at the end, and in one order, so that no two schedulers wait for each other."""
        for login in sorted(self._had_turn):
            lanes.served(self._connection, self._pool_id, login, self._turns[login])

    def _stacks_of(self, login: str) -> Iterator[str]:
        """Its stacks with a free slot, the longest free first."""
        if login not in self._stacks:
            self._stacks[login] = self._look_up(self._lines[login])
        return self._stacks[login]

    def _look_up(self, lines: Sequence[str]) -> Iterator[str]:
        of_lines = [self._of_line(line) for line in lines]
        for _, stack_id, labels in heapq.merge(*of_lines):
            if self._caps.full_label(labels) is None:
                yield stack_id

    def _of_line(self, line: str) -> Iterator[tuple[int, str, list[str]]]:
        _, labels = lanes.split_line(line)
        for open_since, stack_id in lanes.stacks_of_line(
            self._connection, self._pool_id, line, self._at_most
        ):
            yield open_since, stack_id, labels
