"""When which fault is injected where: drawn from a seed, so that a schedule can be had again."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Fault:
    """`at_s` counts from the begin of the soak; `for_s` is how long it lasts before it is healed."""

    at_s: float
    kind: str
    target: str
    for_s: float

    def __str__(self) -> str:
        return f"{self.at_s:8.2f} s  {self.kind} of {self.target} for {self.for_s:.2f} s"


@dataclass(frozen=True, slots=True)
class Kind:
    """What may happen to a target; `weight` against the others of the same track."""

    name: str
    weight: int
    shortest_s: float
    longest_s: float


@dataclass(frozen=True, slots=True)
class Track:
    """Faults of one target never overlap; `pause_s` lies between them, on average."""

    target: str
    pause_s: float
    kinds: Sequence[Kind]


# Longer than the soak's lease of 3 s: what is not behind its gate by then is given up, what is stays.
_ABSENCE: Final = (4.0, 7.0)
_PROCESS: Final = (
    Kind("kill", 4, 0, 0.5),
    Kind("freeze", 3, 0.1, 4),
    Kind("stop", 1, 0, 0.5),
    Kind("outage", 2, *_ABSENCE),
)
_WIRE: Final = (
    Kind("cut", 4, 0, 1.5),
    Kind("reset", 4, 0, 1.5),
    Kind("absence", 1, *_ABSENCE),
    Kind("silence", 2, 0.3, 4),
    Kind("deafness", 1, 0.3, 4),
    Kind("muteness", 1, 0.3, 4),
)


def server(target: str) -> Track:
    return Track(target, 12, _PROCESS)


def runner(target: str) -> Track:
    return Track(target, 8, _PROCESS)


def opa(target: str) -> Track:
    return Track(target, 9, (Kind("kill", 2, 0, 0), Kind("freeze", 2, 0.1, 4)))


def wire(target: str) -> Track:
    return Track(target, 3, _WIRE)


def engine(target: str) -> Track:
    """Its containers live on."""
    return Track(target, 25, (Kind("restart", 1, 0, 1),))


def engine_line(target: str) -> Track:
    return Track(target, 8, (Kind("cut", 1, 0, 2),))


def database(target: str) -> Track:
    return Track(target, 8, (Kind("lock", 1, 0.1, 3),))


def database_server(target: str) -> Track:
    return Track(target, 20, (Kind("kill", 2, 0, 3), Kind("stop", 1, 0, 3)))


def disk(target: str) -> Track:
    return Track(target, 15, (Kind("fill", 1, 0.2, 3),))


def drawn(seed: str, seconds: float, tracks: Sequence[Track]) -> list[Fault]:
    """In order of time. The same seed, time and tracks give the same schedule."""
    faults: list[Fault] = []
    for track in tracks:
        dice = random.Random(f"{seed}/{track.target}")
        at_s = dice.uniform(0.5, track.pause_s)
        while at_s < seconds:
            kind = dice.choices(track.kinds, [each.weight for each in track.kinds])[0]
            fault = Fault(at_s, kind.name, track.target, dice.uniform(kind.shortest_s, kind.longest_s))
            faults.append(fault)
            at_s += fault.for_s + dice.expovariate(1 / track.pause_s) + 0.3
    return sorted(faults, key=lambda fault: fault.at_s)
