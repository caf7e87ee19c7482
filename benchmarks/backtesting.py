"""Recorded decisions that a backtest evaluates again per second, from the call to the report."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from pathlib import Path

from benchmarks import caller, policy_set
from benchmarks.ground import Ground
from benchmarks.quiet import WINDOWS, Windows
from benchmarks.results import Figure
from control_plane import ids
from interlock.client import Client
from interlock.types import BacktestReport

STACK = "bench"
REPLACED = "read-only-commands-5"
DECISIONS = 20_000
_MADE = 20
_COPY = """
    INSERT INTO decisions (id, kind, stack_id, run_id, caller_login, allowed, input, policies, result, took_us,
                           decided_at, sample, shadow)
    SELECT ?, kind, stack_id, '', caller_login, allowed, input, policies, result, took_us, decided_at, sample, shadow
    FROM decisions WHERE id = ?
"""


async def measure(ground: Ground) -> list[Figure]:
    windows = Windows()
    async with ground.opened() as site:
        async with site.connect() as admin:
            await policy_set.attach(admin)
            labels = policy_set.STACK_LABELS
            await admin.stacks.create(STACK, stack_id=STACK, image=ground.image, tool="custom", labels=labels)
            key = await admin.identity.create_key("caller", teams=policy_set.TEAMS)
            async with site.connect(key.credential) as client:
                for _ in range(_MADE):
                    await client.runs.create_task(STACK, caller.COMMAND)
            body = (await admin.policies.get(REPLACED)).body
        site.server.stop()
        _fill_up(site.data_dir / "interlock.db")
        await site.start_server()
        async with site.connect() as admin:
            for _ in range(WINDOWS):
                async with windows.window() as values:
                    values["backtest_per_s"] = await _per_s(admin, body)
    return windows.figures()


async def _per_s(admin: Client, body: str) -> float:
    began = time.monotonic()
    *_, report = [each async for each in admin.policies.backtest(body, replaces=REPLACED)]
    took_s = time.monotonic() - began
    if not isinstance(report, BacktestReport) or report.decisions != DECISIONS or report.newly_denied:
        raise RuntimeError(f"the backtest of a policy against itself says {report}")
    return report.decisions / took_s


def _fill_up(database: Path) -> None:
    """Copies what was decided until there are so many. The server is stopped meanwhile."""
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        made = [row[0] for row in connection.execute("SELECT id FROM decisions WHERE kind = 'task'")]
        copies = ((ids.new_id("dec"), made[number % len(made)]) for number in range(DECISIONS - len(made)))
        connection.executemany(_COPY, copies)
