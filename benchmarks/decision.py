"""What a decision costs in CreateTask: one caller creates tasks on two stacks in turn, one with ten policies of a
thousand and one with none. The caller is an admin, who may do so without a policy, so all ten are task policies."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

from benchmarks import caller, policy_set
from benchmarks.ground import Ground
from benchmarks.quiet import WINDOWS, Windows
from benchmarks.results import Figure
from interlock.client import Client

JUDGED, BARE = "judged", "bare"
WINDOW_S = 5.0
_WARM_UP_S = 0.5


async def measure(ground: Ground) -> list[Figure]:
    windows = Windows()
    async with ground.opened() as site:
        await policy_set.load(site, kind="task")
        async with site.connect() as admin:
            for stack_id, labels in ((JUDGED, policy_set.STACK_LABELS), (BARE, [])):
                await admin.stacks.create(
                    stack_id, stack_id=stack_id, image=ground.image, tool="custom", labels=labels
                )
            # Looks as the examples want a caller to look.
            key = await admin.identity.create_key("caller", teams=policy_set.TEAMS, admin=True)
            async with site.connect(key.credential) as client:
                await _in_turn(client, _WARM_UP_S)
                for _ in range(WINDOWS):
                    async with windows.window() as values:
                        judged, bare = await _in_turn(client, WINDOW_S)
                        values["decision_over_bare_p50_ms"] = statistics.median(judged) - statistics.median(
                            bare
                        )
                        values["decision_over_bare_p99_ms"] = _p99(judged) - _p99(bare)
    return windows.figures()


async def _in_turn(client: Client, seconds: float) -> tuple[list[float], list[float]]:
    """Milliseconds of each call, on the one and the other; who goes first alternates."""
    took: dict[str, list[float]] = {JUDGED: [], BARE: []}
    end = time.monotonic() + seconds
    order = [JUDGED, BARE]
    while time.monotonic() < end:
        for stack_id in order:
            before = time.monotonic()
            await client.runs.create_task(stack_id, caller.COMMAND)
            took[stack_id].append(1000 * (time.monotonic() - before))
        order.reverse()
    return took[JUDGED], took[BARE]


def _p99(ms: Sequence[float]) -> float:
    return sorted(ms)[int(0.99 * len(ms))]
