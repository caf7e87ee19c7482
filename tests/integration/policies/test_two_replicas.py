"""One replica changes policies while another decides: each decision is by one set of revisions, which it records."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from control_plane.policies.errors import OpaUnavailable, PoliciesChanged
from control_plane.storage.database import Database
from interlock.v1 import policy_pb2
from policies.workbench.compiler import Compiler
from tests.integration.policies.keep import WITHIN_S, Keep, replica

CHANGES = 4


def text(revision: int) -> str:
    return f'package a\n\ndeny contains "revision {revision}" if true\n'


async def answers(there: Keep, changing: asyncio.Task[None]) -> list[int]:
    """The revisions that decided, one decision after the other, until one that began after the last change."""
    seen = []
    is_last = False
    while not is_last:
        is_last = changing.done()
        policies = await there.policies()
        try:
            decision = await there.house.task(*policies)
        except (PoliciesChanged, OpaUnavailable):
            # Judged again, as the callers of the engine do; a machine that is too slow refuses.
            is_last = False
            continue
        recorded = {each["id"]: each["revision"] for each in decision.record()["policies"]}
        assert recorded == {policy.id: policy.revision for policy in policies}
        [revision] = recorded.values()
        assert decision.messages == [f"revision {revision}"]
        seen.append(revision)
    return seen


async def test_decisions_of_one_replica_are_each_by_one_revision_while_another_changes_it(
    database_url: str, opa_path: Path, compiler: Compiler
) -> None:
    databases = [Database(database_url) for _ in range(2)]
    async with (
        replica(databases[0], opa_path, compiler, deadline_s=1.5) as here,
        replica(databases[1], opa_path, compiler, deadline_s=1.5) as there,
    ):
        there.index.on_newer = there.catalog.look
        following = asyncio.create_task(there.catalog.follow())
        made = await here.create(text(1))

        async def change() -> None:
            for revision in range(2, CHANGES + 2):
                await here.update(policy_pb2.Policy(id=made.id, body=text(revision)), "body")

        async with asyncio.timeout(WITHIN_S):
            seen = await answers(there, asyncio.create_task(change()))
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following

    for database in databases:
        database.close()
    assert seen == sorted(seen)
    assert seen[-1] == CHANGES + 1
