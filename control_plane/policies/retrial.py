"""A decision that was made, with one policy's part in it given to another text: what would have come out. Pure."""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from control_plane.policies import combine
from control_plane.policies.combine import Evaluation, PolicyRef, RuleValue
from control_plane.policies.errors import EvaluationFailed
from policies.workbench.kinds import Kind

# Beside each kind's own words for what came out.
FAILED: Final = "failed"
UNKNOWN: Final = "unknown"

# From the strictest to the most lenient; each kind has its own words.
_STRICTNESS: Final[Mapping[str, int]] = {
    word: rank
    for words in (
        ("denied", "allowed", "admin"),
        ("none", "read", "write"),
        ("rejected", "undecided", "approved"),
    )
    for rank, word in enumerate(words)
}
# What a caller meets where the policies cannot be evaluated.
_AS_FAILED: Final[Mapping[Kind, str]] = {
    Kind.TASK: "denied",
    Kind.ACCESS: "none",
    Kind.APPROVAL: "undecided",
    Kind.LOGIN: "denied",
}

Said = Evaluation | EvaluationFailed


class Effect(enum.StrEnum):
    """How a decision would be different."""

    NEWLY_DENIED = enum.auto()
    NEWLY_ALLOWED = enum.auto()
    ERROR = enum.auto()
    SLOWER = enum.auto()


@dataclass(frozen=True)
class Part:
    """What the policies of one kind had to do with a decision.

    `others` are those beside the replaced one; None where nobody knows what they say: the decision failed, mostly.
    """

    kind: Kind
    outcome: str
    others: Sequence[Evaluation] | None
    replaced: Evaluation | None = None


@dataclass(frozen=True)
class Retrial:
    """What would have come out, and how that is different; no effects where it is not."""

    was: str
    would_be: str
    effects: tuple[Effect, ...] = ()
    messages: tuple[str, ...] = ()


def recorded_as(kind: Kind) -> Kind:
    """The kind of the decisions that policies of this kind take part in: access is recorded with the task."""
    return Kind.TASK if kind is Kind.ACCESS else kind


def part_of(
    kind: Kind, policies: Sequence[Mapping[str, Any]], result: Mapping[str, Any], *, replaces: str = ""
) -> Part | None:
    """Of a decision's record; None where policies of this kind, or the one to replace, had no say in it."""
    asked = [each for each in policies if each["kind"] == kind.value]
    if replaces and not any(each["id"] == replaces for each in asked):
        return None
    if "failure" in result:
        # Which one failed is not recorded: only where it was asked alone is it clear that nothing else counts.
        is_alone = all(each["id"] == replaces for each in policies)
        return Part(kind, FAILED, () if is_alone else None)
    outcome = _outcome(kind, asked, result)
    if outcome is None:
        return None
    said = [_evaluation(each) for each in asked if "results" in each]
    # Early releases did not record what each of them said.
    is_known = all("results" in each for each in asked if each["id"] != replaces)
    return Part(
        kind,
        outcome,
        [each for each in said if each.policy.id != replaces] if is_known else None,
        next((each for each in said if each.policy.id == replaces), None),
    )


def input_for(kind: Kind, recorded: str) -> str:
    """What policies of this kind see of a recorded input, both as JSON."""
    if kind is not Kind.ACCESS:
        return recorded
    document = json.loads(recorded)
    document["request"].pop("command", None)
    return json.dumps(document, ensure_ascii=False)


def alone(kind: Kind, said: Said) -> str | EvaluationFailed:
    """What one text comes to without any other."""
    if isinstance(said, EvaluationFailed):
        return said
    try:
        return combine.outcome(kind, [said])
    except EvaluationFailed as error:
        return error


def retry(part: Part, said: Said, *, is_slower: bool = False) -> Retrial:
    """The decision again, with what the text says of its input."""
    by_itself = alone(part.kind, said)
    slower = (Effect.SLOWER,) if is_slower else ()
    if isinstance(said, EvaluationFailed) or isinstance(by_itself, EvaluationFailed):
        failure = said if isinstance(said, EvaluationFailed) else by_itself
        assert isinstance(failure, EvaluationFailed)
        denied = _effect(part, FAILED) if part.others is not None else None
        effects = (*([denied] if denied else []), Effect.ERROR, *slower)
        return Retrial(part.outcome, FAILED, effects, (failure.cause,))
    if part.others is None:
        return Retrial(part.outcome, UNKNOWN, slower, ("slower",) if slower else ())
    would_be = combine.outcome(part.kind, [*part.others, said])
    effect = _effect(part, would_be)
    if effect is None:
        return Retrial(part.outcome, would_be, slower, ("slower",) if slower else ())
    return Retrial(part.outcome, would_be, (effect, *slower), _messages(part, said, would_be, effect))


def is_stricter(kind: Kind, would_be: str, was: str) -> bool:
    """A word of this kind against another."""
    return _rank(kind, would_be) < _rank(kind, was)


def _outcome(kind: Kind, asked: Sequence[object], result: Mapping[str, Any]) -> str | None:
    """None where policies of this kind had no say."""
    match kind:
        case Kind.ACCESS:
            level: str = result.get("access", "write")
            # Without a policy there is no access, but for an admin, who is not asked about.
            return None if level == "write" and not asked else level
        case Kind.TASK:
            if result.get("access", "write") != "write":
                return None
            return "allowed" if result["allowed"] else "denied"
        case Kind.APPROVAL | Kind.LOGIN:
            return str(result["outcome"])


def _effect(part: Part, would_be: str) -> Effect | None:
    if is_stricter(part.kind, would_be, part.outcome):
        return Effect.NEWLY_DENIED
    return Effect.NEWLY_ALLOWED if is_stricter(part.kind, part.outcome, would_be) else None


def _rank(kind: Kind, word: str) -> int:
    return _STRICTNESS[_AS_FAILED[kind] if word == FAILED else word]


def _messages(part: Part, said: Evaluation, would_be: str, effect: Effect) -> tuple[str, ...]:
    """A task policy's own words; the other kinds have none."""
    change = (f"{part.outcome} -> {would_be}",)
    if part.kind is not Kind.TASK:
        return change
    speaker = said if effect is Effect.NEWLY_DENIED else part.replaced
    if speaker is None:
        return change
    return tuple(each.message for each in combine.denials([speaker])) or change


def _evaluation(said: Mapping[str, Any]) -> Evaluation:
    """A decision that was made had rules of the right types, so that JSON's lists were sets."""
    rules = {name: RuleValue(_type_of(value), value) for name, value in said["results"].items()}
    return Evaluation(PolicyRef(said["id"], said["name"], said["revision"]), rules)


def _type_of(value: Any) -> str:
    match value:
        case bool():
            return "boolean"
        case list():
            return "set"
        case str():
            return "string"
        case None:
            return "null"
        case dict():
            return "object"
        case _:
            return "number"
