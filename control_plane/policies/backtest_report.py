"""What a backtest comes to: counts, and the stacks, callers and messages that most of the changes are about. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from control_plane.policies.retrial import Effect, Retrial
from interlock.v1 import backtest_pb2, policy_pb2

_SHOWN: Final = 20
# Messages may all be different; a million of them must not be kept.
_SUBJECTS: Final = 10_000
_OTHERS: Final = "(others)"


class _Subjects:
    """Counts of effects by subject."""

    def __init__(self, at_most: int = _SUBJECTS) -> None:
        self._at_most = at_most
        self._counts: defaultdict[str, Counter[Effect]] = defaultdict(Counter)

    def add(self, subject: str, effects: Iterable[Effect]) -> None:
        is_known = subject in self._counts or len(self._counts) < self._at_most
        self._counts[subject if is_known else _OTHERS].update(effects)

    def most(self) -> list[backtest_pb2.BacktestCount]:
        ordered = sorted(self._counts.items(), key=lambda item: (-item[1].total(), item[0]))
        return [
            backtest_pb2.BacktestCount(
                subject=subject,
                newly_denied=counts[Effect.NEWLY_DENIED],
                newly_allowed=counts[Effect.NEWLY_ALLOWED],
                errors=counts[Effect.ERROR],
                slower=counts[Effect.SLOWER],
            )
            for subject, counts in ordered[:_SHOWN]
            if subject
        ]


@dataclass
class Tally:
    """Counts as decisions are tried again, in whatever order. `read` are those that were looked at, of any kind."""

    read: int = 0
    decisions: int = 0
    incomparable: int = 0
    passed_over: int = 0
    took_us: int = 0
    effects: Counter[Effect] = field(default_factory=Counter)
    _stacks: _Subjects = field(default_factory=_Subjects)
    _callers: _Subjects = field(default_factory=_Subjects)
    _messages: _Subjects = field(default_factory=_Subjects)

    def add(
        self, retrial: Retrial, *, stack_id: str, caller_login: str, took_us: int, is_known: bool
    ) -> None:
        """`is_known`: what the other policies say of it."""
        self.decisions += 1
        self.took_us += took_us
        self.incomparable += not is_known
        if retrial.effects:
            self.effects.update(retrial.effects)
            self._stacks.add(stack_id, retrial.effects)
            self._callers.add(caller_login, retrial.effects)
            for message in retrial.messages:
                self._messages.add(message, retrial.effects)

    def progress(self, total: int, decisions_per_s: float) -> backtest_pb2.BacktestProgress:
        return backtest_pb2.BacktestProgress(
            read=self.read,
            total=total,
            decisions=self.decisions,
            newly_denied=self.effects[Effect.NEWLY_DENIED],
            newly_allowed=self.effects[Effect.NEWLY_ALLOWED],
            errors=self.effects[Effect.ERROR],
            slower=self.effects[Effect.SLOWER],
            decisions_per_s=decisions_per_s,
        )

    def report(
        self, kind: policy_pb2.PolicyKind.ValueType, replaces: str, decisions_per_s: float
    ) -> backtest_pb2.BacktestReport:
        return backtest_pb2.BacktestReport(
            kind=kind,
            replaces_policy_id=replaces,
            decisions=self.decisions,
            newly_denied=self.effects[Effect.NEWLY_DENIED],
            newly_allowed=self.effects[Effect.NEWLY_ALLOWED],
            errors=self.effects[Effect.ERROR],
            slower=self.effects[Effect.SLOWER],
            incomparable=self.incomparable,
            passed_over=self.passed_over,
            mean_evaluation_us=self.took_us // self.decisions if self.decisions else 0,
            decisions_per_s=decisions_per_s,
            stacks=self._stacks.most(),
            callers=self._callers.most(),
            messages=self._messages.most(),
        )


def effect_numbers(effects: Iterable[Effect]) -> list[backtest_pb2.BacktestEffect.ValueType]:
    return [backtest_pb2.BacktestEffect.Value(f"BACKTEST_EFFECT_{effect.name}") for effect in effects]
