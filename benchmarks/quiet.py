"""Absolute figures on a noisy machine: five windows, and the value of the quietest."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from benchmarks import processes
from benchmarks.results import Figure

WINDOWS = 5


@dataclass
class Windows:
    """Values by figure's name, one per window, with the noise in each.

    Noise is the part of the machine's CPU time that went to others than this process and its descendants, or was
    stolen by the host. The engine's part counts as noise too; it is the same in every window.
    """

    values: list[Mapping[str, float]] = field(default_factory=list)
    noise: list[float] = field(default_factory=list)

    @asynccontextmanager
    async def window(self) -> AsyncIterator[dict[str, float]]:
        """Fill in the values."""
        values: dict[str, float] = {}
        began, others = time.monotonic(), _others_s()
        yield values
        self.noise.append(max(0.0, _others_s() - others) / (time.monotonic() - began))
        self.values.append(values)

    def figures(self) -> list[Figure]:
        """One per name, with the value of the quietest window."""
        quietest = min(range(len(self.noise)), key=self.noise.__getitem__)
        taken_from = f"{len(self.values)} windows, no. {quietest + 1} the quietest"
        return [
            Figure(name, self.values[quietest][name], [values[name] for values in self.values], taken_from)
            for name in self.values[0]
        ]


def _others_s() -> float:
    return processes.machine_busy_s() - processes.family_cpu_s(os.getpid())
