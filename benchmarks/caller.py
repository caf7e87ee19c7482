"""A caller in a process of its own: on each line `SECONDS` of standard input it creates tasks, one after the other, for
so long, and answers with a line of JSON: when it began and ended, and how long each call took.

    python -m benchmarks.caller ADDRESS API_KEY STACK
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import interlock
from interlock.client import Client

COMMAND = "terraform state list"
_WARM_UP_CALLS = 5


async def main(address: str, api_key: str, stack_id: str) -> None:
    async with interlock.connect(address, api_key=api_key) as client:
        for _ in range(_WARM_UP_CALLS):
            await client.runs.create_task(stack_id, COMMAND)
        print("ready", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            began = time.monotonic()
            latencies_ms = await _call_for(client, stack_id, float(line))
            print(json.dumps({"began": began, "ended": time.monotonic(), "ms": latencies_ms}), flush=True)


async def _call_for(client: Client, stack_id: str, seconds: float) -> list[float]:
    latencies_ms = []
    end = time.monotonic() + seconds
    while (before := time.monotonic()) < end:
        await client.runs.create_task(stack_id, COMMAND)
        latencies_ms.append(1000 * (time.monotonic() - before))
    return latencies_ms


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
