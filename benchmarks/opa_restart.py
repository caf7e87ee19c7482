"""From SIGKILL of OPA until the next right decision, where a thousand policies are loaded."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import interlock
from benchmarks import caller, policy_set
from benchmarks.ground import Ground
from benchmarks.processes import opas_of
from benchmarks.quiet import WINDOWS, Windows
from benchmarks.results import Figure
from interlock import errors
from interlock.client import Client

STACK = "bench"
# Denied by an example.
FORBIDDEN = "terraform destroy"
_LOOK_S = 0.01
# One that dies sooner after its start is started again only after a pause.
_LIFE_S = 6.0
_IMPATIENT = interlock.Retry(give_up_after_s=0)


async def measure(ground: Ground) -> list[Figure]:
    windows = Windows()
    async with ground.opened() as site:
        await policy_set.load(site)
        async with site.connect() as admin:
            labels = policy_set.STACK_LABELS
            await admin.stacks.create(STACK, stack_id=STACK, image=ground.image, tool="custom", labels=labels)
            key = await admin.identity.create_key("caller", teams=policy_set.TEAMS)
        async with interlock.connect(site.address, api_key=key.credential, retry=_IMPATIENT) as client:
            await _right(client)
            for _ in range(WINDOWS):
                await asyncio.sleep(_LIFE_S)
                async with windows.window() as values:
                    killed = time.monotonic()
                    for pid in opas_of(site.server.pid):
                        os.kill(pid, signal.SIGKILL)
                    while not await _right(client):
                        await asyncio.sleep(_LOOK_S)
                    values["opa_restart_s"] = time.monotonic() - killed
    return windows.figures()


async def _right(client: Client) -> bool:
    """What is allowed is, and what is forbidden is not; False where there is no answer yet."""
    try:
        allowed = await client.runs.explain_task(STACK, caller.COMMAND)
        denied = await client.runs.explain_task(STACK, FORBIDDEN)
    except errors.Unavailable:
        return False
    if not allowed.allowed or denied.allowed:
        raise RuntimeError(f"a wrong decision: {allowed.outcome}; {denied.outcome}")
    return True
