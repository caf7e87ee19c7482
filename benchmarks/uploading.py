"""One policy more where a thousand are loaded: until the call returns, all checks made and OPA decides with it; and how
long the decisions of others take at most meanwhile."""

from __future__ import annotations

import asyncio
import time

from benchmarks import caller, policy_set
from benchmarks.ground import Ground
from benchmarks.quiet import WINDOWS, Windows
from benchmarks.results import Figure
from interlock.client import Client

STACK = "bench"
NEW = 'package spacelift\n\ndeny contains "number {0}" if input.request.command == "number {0}"\n'


async def measure(ground: Ground) -> list[Figure]:
    windows = Windows()
    async with ground.opened() as site:
        await policy_set.load(site)
        async with site.connect() as admin:
            labels = policy_set.STACK_LABELS
            await admin.stacks.create(STACK, stack_id=STACK, image=ground.image, tool="custom", labels=labels)
            key = await admin.identity.create_key("caller", teams=policy_set.TEAMS)
            async with site.connect(key.credential) as other:
                await _decide(other)
                for number in range(WINDOWS):
                    async with windows.window() as values:
                        values.update(await _upload(admin, other, number))
    return windows.figures()


async def _upload(admin: Client, other: Client, number: int) -> dict[str, float]:
    deciding = asyncio.create_task(_longest_ms(other))
    await asyncio.sleep(0)
    began = time.monotonic()
    await admin.policies.create(
        f"new {number}", NEW.format(number), kind="task", labels=["autoattach:elsewhere"]
    )
    took_s = time.monotonic() - began
    deciding.cancel()
    return {"upload_s": took_s, "upload_stall_ms": await deciding}


async def _longest_ms(client: Client) -> float:
    """One decision after the other, until cancelled; the one that is under way then counts."""
    longest_s = 0.0
    began = time.monotonic()
    try:
        while True:
            began = time.monotonic()
            await _decide(client)
            longest_s = max(longest_s, time.monotonic() - began)
    except asyncio.CancelledError:
        return 1000 * max(longest_s, time.monotonic() - began)


async def _decide(client: Client) -> None:
    """Decided as for CreateTask, by all that applies, and not stored: no disk has its part in it."""
    answer = await client.runs.explain_task(STACK, caller.COMMAND)
    if not answer.allowed:
        raise RuntimeError(f"{caller.COMMAND!r} is not allowed: {answer.outcome}")
