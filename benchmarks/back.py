"""From SIGKILL until it does its work again, under a supervisor that starts it anew at once: the control plane answers a
call, the runner streams what its task writes now, OPA (its supervisor is the control plane) decides."""

from __future__ import annotations

import asyncio
import time

import psutil

import interlock
from benchmarks.ground import Ground, Site
from benchmarks.quiet import WINDOWS, Windows
from benchmarks.results import Figure
from interlock import errors
from interlock.types import OutputChunk
from tests import house

# Each line says when it was written: busybox and bash know this variable.
COMMAND = "while :; do echo $EPOCHREALTIME; sleep 0.02; done"
POLICY = 'package spacelift\n\ndeny["never"] { input.request.command == "never" }\n'
_LOOK_S = 0.01
_IMPATIENT = interlock.Retry(give_up_after_s=0)


async def measure(ground: Ground) -> list[Figure]:
    windows = Windows()
    async with ground.with_runner() as site:
        await site.client.policies.create("none", POLICY, kind="task", labels=["autoattach:*"])
        stack_id = await site.bare_stack("bench")
        run = await site.client.runs.create_task(stack_id, COMMAND)
        await house.reached(site.client, run.id, "PERFORMING")
        for _ in range(WINDOWS):
            async with windows.window() as values:
                values["back_runner_s"] = await _runner_s(site, run.id)
                values["back_opa_s"] = await _opa_s(site, stack_id)
                values["back_control_plane_s"] = await _control_plane_s(site)
    return windows.figures()


async def _runner_s(site: Site, run_id: str) -> float:
    start = (await site.client.runs.get(run_id)).output_size_bytes
    killed = time.time()
    site.runner.kill()
    site.runner.start()
    begun = b""
    async for event in site.client.runs.follow(run_id, offset=start):
        if isinstance(event, OutputChunk):
            *lines, begun = (begun + event.data).split(b"\n")
            # The first may be half a line.
            if any(_written(line) > killed for line in lines[1:]):
                return time.time() - killed
    raise RuntimeError(f"{run_id} has ended")


def _written(line: bytes) -> float:
    return float(line) if line.replace(b".", b"").isdigit() else 0.0


async def _opa_s(site: Site, stack_id: str) -> float:
    """Until the next task is decided; it waits in the queue of its stack."""
    [opa] = [child for child in psutil.Process(site.house.server.pid).children() if "opa" in child.name()]
    async with interlock.connect(
        site.house.address, api_key=site.house.admin_key, retry=_IMPATIENT
    ) as caller:
        await caller.identity.get_caller()
        killed = time.monotonic()
        opa.kill()
        while True:
            try:
                await caller.runs.create_task(stack_id, "true")
            except errors.Unavailable:
                await asyncio.sleep(_LOOK_S)
            else:
                return time.monotonic() - killed


async def _control_plane_s(site: Site) -> float:
    killed = time.monotonic()
    site.house.server.kill()
    await site.house.start_server()
    async with site.house.connect() as caller:
        await caller.identity.get_caller()
    return time.monotonic() - killed
