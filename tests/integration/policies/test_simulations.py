"""Simulations beside each other; what they say is in tests/e2e/test_simulate.py."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from control_plane.identity.principal import Principal
from control_plane.keys import MasterKey, Sealer
from control_plane.policies.access_asked import AccessJudge
from control_plane.policies.approval import ApprovalJudge
from control_plane.policies.attached import AttachmentIndex
from control_plane.policies.guard import PolicyGuard
from control_plane.policies.login import LoginJudge
from control_plane.policies.simulate import Judges, Simulations
from control_plane.policies.tasks import TaskJudge
from control_plane.runs.asked_approval import AskedApprovals
from control_plane.stacks.access import Access
from control_plane.stacks.secrets import StackSecrets
from control_plane.storage.database import Database
from interlock.v1 import policy_pb2
from interlock.v1 import policy_service_pb2 as rpc
from policies.workbench.compiler import CompiledPolicy
from tests.integration.policies.house import House

ADMIN = Principal(id="key_1", login="root", name="Root", admin=True)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_two_simulations_are_under_way_at_once_and_others_wait(
    db: Database, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    check, gate, begun = house.engine.check, asyncio.Event(), 0

    async def held(*arguments: Any) -> CompiledPolicy:
        nonlocal begun
        begun += 1
        await gate.wait()
        return await check(*arguments)

    monkeypatch.setattr(house.engine, "check", held)
    request = rpc.SimulatePolicyRequest(
        kind=policy_pb2.POLICY_KIND_LOGIN, body="package p\n\nallow := true\n"
    )
    simulations = _simulations(db, house)
    asked = [asyncio.create_task(simulations.of(ADMIN, request)) for _ in range(3)]
    # Whoever asks for a login's kind comes as far as that without waiting for anything.
    for _ in range(10):
        await asyncio.sleep(0)
    assert begun == 2
    gate.set()
    assert [each.alone for each in await asyncio.gather(*asked)] == ["allowed"] * 3


def _simulations(db: Database, house: House) -> Simulations:
    index, secrets = AttachmentIndex(db), StackSecrets(db, Sealer(MasterKey(b"k" * 32)))
    tasks = TaskJudge(house.engine, index, secrets)
    judges = Judges(
        tasks,
        AccessJudge(house.engine, index),
        AskedApprovals(db, ApprovalJudge(house.engine, index, secrets)),
        LoginJudge(db, house.engine, index),
    )
    access = Access(db, PolicyGuard(db, house.engine, index, tasks))
    return Simulations(db, house.engine, access, secrets, judges)
