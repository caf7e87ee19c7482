"""A task that shows whether anything disturbed it: it counts its lines, and how often it was started.

It goes on until `tests.holding.release`."""

from __future__ import annotations

from interlock import types
from interlock.client import Client
from tests.e2e.conftest import new_stack
from tests.house import reached

# Writes lines until it is told to end, then the last number; touches a counter that outlives the shell.
LINES = """
echo started >> /tmp/starts
n=0
until [ -e /tmp/released ]; do
  n=$((n+1)); echo "line $n of a task that nobody disturbs"; [ $((n % 50)) = 0 ] && sleep 0.05
done
echo "last $n, started $(wc -l < /tmp/starts | tr -d ' ') time"
"""
SECRET = "kept-out-of-every-log"


def expected(output: bytes) -> bytes:
    """What the task must have written, by its own account of how far it came."""
    last = int(output.rsplit(b"last ", 1)[1].split(b",")[0])
    lines = b"".join(b"line %d of a task that nobody disturbs\n" % number for number in range(1, last + 1))
    return lines + b"last %d, started 1 time\n" % last


async def performing(client: Client, image: str) -> types.Run:
    stack = await new_stack(client, image)
    await client.stacks.set_environment(stack.id, secrets={"TOKEN": SECRET})
    run = await client.runs.create_task(stack.id, LINES)
    await reached(client, run.id, "PERFORMING")
    return run


async def grown(client: Client, run_id: str, more: int = 20_000) -> None:
    """Returns once so many more bytes of output are stored."""
    start = (await client.runs.get(run_id)).output_size_bytes
    async for event in client.runs.follow(run_id, offset=start):
        if isinstance(event, types.OutputChunk) and event.offset + len(event.data) >= start + more:
            return
