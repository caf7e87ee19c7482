"""Which warm containers are worth their memory: of which kinds, and how many of each. Pure; the time is handed in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from runner.engine import ContainerSpec, Limits

KEEP_S = 600.0
"""How long after its last use a kind is still wanted."""


@dataclass(frozen=True)
class Kind:
    """What two containers have in common when one is as good as the other for a run."""

    image: str
    image_id: str
    """What the name meant when the run asked: a name can be given to another image at any time."""
    limits: Limits
    network_mode: str
    runtime: str

    @classmethod
    def of(cls, spec: ContainerSpec, image_id: str) -> Kind | None:
        """None for a container that cannot wait: with a mount it would show what was there when it was started."""
        if spec.mounts:
            return None
        return cls(spec.image, image_id, spec.limits, spec.network_mode, spec.runtime)


class Demand:
    """What runs lately asked for."""

    def __init__(self, *, per_kind: int, total: int) -> None:
        """`per_kind`: how many to have of each kind in use; `total`: how many at most of all kinds."""
        self._per_kind = per_kind
        self._total = total
        self._used_s: dict[Kind, float] = {}

    def note(self, kind: Kind, now_s: float) -> None:
        """A run asks for one. What its image's name meant before is not wanted any more."""
        for known in [known for known in self._used_s if known.image == kind.image]:
            if known.image_id != kind.image_id:
                del self._used_s[known]
        self._used_s[kind] = now_s

    def forget(self, kind: Kind) -> None:
        """Until the next run asks for it."""
        self._used_s.pop(kind, None)

    def clear(self) -> None:
        self._used_s.clear()
        self._per_kind = 0

    def wanted(self, now_s: float) -> dict[Kind, int]:
        """How many to have of which kind, the latest in use first. Each gets one before any gets its second."""
        self._used_s = {kind: used_s for kind, used_s in self._used_s.items() if now_s - used_s < KEEP_S}
        latest_first = sorted(self._used_s, key=lambda kind: self._used_s[kind], reverse=True)
        wanted = dict.fromkeys(latest_first, 0)
        left = self._total
        for _ in range(self._per_kind):
            for kind in latest_first[: max(left, 0)]:
                wanted[kind] += 1
            left -= len(latest_first)
        return {kind: count for kind, count in wanted.items() if count}

    def missing(self, present: Mapping[Kind, int], now_s: float) -> Kind | None:
        """The kind to make one of next."""
        wanted = self.wanted(now_s)
        return next((kind for kind, count in wanted.items() if present.get(kind, 0) < count), None)
