"""Approval policies about the plan of a tracked run: nothing is confirmed that they did not approve as it is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from control_plane.identity.principal import Principal
from control_plane.policies.approval import ApprovalJudge, ApprovalVerdict
from control_plane.policies.attached import AttachmentIndex
from control_plane.policies.catalog import PolicyCatalog
from control_plane.policies.combine import PolicyRef
from control_plane.policies.engine import PolicyEngine
from control_plane.policies.opa import SupervisedOpa
from control_plane.policies.quarantine import Quarantine
from control_plane.runs import review_store
from control_plane.runs.errors import WrongState
from control_plane.runs.feeds import Feeds
from control_plane.runs.kept import KeptPlans
from control_plane.runs.notices import Notices
from control_plane.runs.review import Approvals
from control_plane.runs.states import RunState
from control_plane.stacks.secrets import StackSecrets
from control_plane.storage.archives import ArchiveStore
from interlock.v1 import policy_pb2, run_pb2
from interlock.v1 import policy_service_pb2 as policy_rpc
from interlock.v1 import run_service_pb2 as rpc
from policies.workbench.compiler import Compiler
from policies.workbench.toolchain import Toolchain
from tests.integration.runs.conftest import World
from tests.integration.runs.test_tracked import confirmed, plan

ADMIN = Principal(id="key_1", login="root", name="Root", admin=True)
BO = Principal(id="key_00000000000000000000000bo", login="bo", name="Bo", remote_ip="192.0.2.9")
CY = Principal(id="key_00000000000000000000000cy", login="cy", name="Cy")
TWO_EYES = """package spacelift
import rego.v1
approve if {
	run.state == "UNCONFIRMED"
	some review in reviews.current.approvals
	review.author != run.creator_session.login
}
reject if count(reviews.current.rejections) > 0
"""
NO_ADDITIONS = """package spacelift
import rego.v1
approve := true
reject if {
	some change in run.changes
	change.action == "added"
	change.entity.address == "a.b"
}
"""


class HastyJudge(ApprovalJudge):
    """Something happens while it has judged and the run was not moved yet, once."""

    meanwhile: Callable[[], Awaitable[None]] | None = None

    async def judge(self, *arguments: Any, **options: Any) -> ApprovalVerdict:
        verdict = await super().judge(*arguments, **options)
        happens, self.meanwhile = self.meanwhile, None
        if happens is not None:
            await happens()
        return verdict


@dataclass(frozen=True)
class Office:
    world: World
    catalog: PolicyCatalog
    approvals: Approvals
    judge: HastyJudge

    async def policy(self, body: str, name: str = "eyes") -> str:
        """For every stack; its id."""
        made = policy_pb2.Policy(
            name=name, kind=policy_pb2.POLICY_KIND_APPROVAL, body=body, labels=["autoattach:*"]
        )
        return (await self.catalog.create(ADMIN, policy_rpc.CreatePolicyRequest(policy=made))).id

    async def review(
        self, run_id: str, verdict: run_pb2.ReviewVerdict.ValueType = run_pb2.REVIEW_VERDICT_APPROVE
    ) -> None:
        await self.approvals.review(BO, rpc.ReviewRunRequest(run_id=run_id, verdict=verdict))


@pytest.fixture
async def office(world: World, opa_path: Path) -> AsyncIterator[Office]:
    engine = PolicyEngine(SupervisedOpa(opa_path), Compiler(Toolchain(opa_path)), sanitizer_key="key")
    await engine.start([])
    judge = HastyJudge(engine, AttachmentIndex(world.db), StackSecrets(world.db, world.sealer))
    approvals = Approvals(world.db, judge, Notices(Feeds()))
    yield Office(world, PolicyCatalog(world.db, engine), approvals, judge)
    await engine.stop()


@pytest.fixture
def kept(world: World, tmp_path: Path) -> KeptPlans:
    archives = ArchiveStore(tmp_path / "sources")
    archives.open()
    return KeptPlans(world.db, archives, world.sealer)


async def test_a_plan_is_confirmed_only_once_it_is_approved(office: Office, kept: KeptPlans) -> None:
    await office.policy(TWO_EYES)
    run, _ = await plan(office.world, kept)
    with pytest.raises(WrongState, match="are being asked"):
        await confirmed(office.world, run)
    await office.approvals.settle(run)
    with pytest.raises(WrongState, match="waits for the approval of policy eyes"):
        await confirmed(office.world, run)
    await office.review(run)
    await confirmed(office.world, run)
    assert await office.world.state(run) is RunState.CONFIRMED


async def test_a_rejected_plan_fails_its_run_and_frees_the_slot(office: Office, kept: KeptPlans) -> None:
    await office.policy(TWO_EYES)
    run, _ = await plan(office.world, kept)
    await office.review(run, run_pb2.REVIEW_VERDICT_REJECT)
    row = await office.world.row(run)
    assert (RunState(row.state), row.failure) == (RunState.FAILED, run_pb2.RUN_FAILURE_REJECTED)
    assert await office.world.holder() is None


async def test_policies_see_what_the_plan_changes(office: Office, kept: KeptPlans) -> None:
    await office.policy(NO_ADDITIONS)
    run, _ = await plan(office.world, kept)
    await office.approvals.settle(run)
    assert await office.world.state(run) is RunState.FAILED


async def test_a_run_that_confirms_by_itself_waits_for_approval_first(
    office: Office, kept: KeptPlans
) -> None:
    await office.policy(TWO_EYES)
    run, _ = await plan(office.world, kept, auto_confirm=True)
    assert await office.world.state(run) is RunState.UNCONFIRMED
    await office.review(run)
    assert await office.world.state(run) is RunState.CONFIRMED


async def test_an_approval_does_not_outlive_the_policy_that_gave_it(office: Office, kept: KeptPlans) -> None:
    policy_id = await office.policy(TWO_EYES)
    run, _ = await plan(office.world, kept)
    await office.review(run)
    never = policy_pb2.Policy(id=policy_id, body="package spacelift\nimport rego.v1\napprove if false\n")
    request = policy_rpc.UpdatePolicyRequest(policy=never)
    request.update_mask.paths.append("body")
    await office.catalog.update(ADMIN, request)
    with pytest.raises(WrongState):
        await confirmed(office.world, run)
    assert await office.world.db.read(review_store.stale) == [run]
    await office.approvals.settle(run)
    with pytest.raises(WrongState, match=r"revision 2"):
        await confirmed(office.world, run)


async def test_without_an_approval_policy_a_plan_is_confirmed_as_ever(
    office: Office, kept: KeptPlans
) -> None:
    run, _ = await plan(office.world, kept)
    await office.approvals.settle(run)
    await confirmed(office.world, run)
    assert await office.world.state(run) is RunState.CONFIRMED


async def test_a_rejection_between_a_judgement_and_its_record_is_not_overlooked(
    office: Office, kept: KeptPlans
) -> None:
    await office.policy(TWO_EYES)
    run, _ = await plan(office.world, kept, auto_confirm=True)

    async def reject() -> None:
        await office.world.db.write(
            lambda tx: review_store.insert_review(
                tx, run, CY, state="UNCONFIRMED", approves=False, note="stop"
            )
        )

    office.judge.meanwhile = reject
    await office.review(run)
    assert await office.world.state(run) is RunState.FAILED


async def test_a_policy_changed_between_a_judgement_and_its_record_is_asked(
    office: Office, kept: KeptPlans
) -> None:
    await office.policy(TWO_EYES)
    run, _ = await plan(office.world, kept, auto_confirm=True)

    async def forbid() -> None:
        await office.policy("package spacelift\nimport rego.v1\nreject := true\n", "no")

    office.judge.meanwhile = forbid
    await office.review(run)
    assert await office.world.state(run) is RunState.FAILED


async def test_a_run_waits_for_a_policy_in_quarantine_and_is_judged_again_once_that_is_released(
    office: Office, kept: KeptPlans
) -> None:
    policy = PolicyRef(await office.policy(TWO_EYES), "eyes", 1)
    quarantine = Quarantine(office.world.db, on_change=office.approvals.wake)
    for _ in range(3):
        await quarantine.overran(policy, "it takes more than 1.5 s")
    run, _ = await plan(office.world, kept)
    await office.review(run)
    waiting = await office.world.db.read(lambda tx: review_store.find(tx, run))

    await quarantine.release(ADMIN, policy.id)
    stale = await office.world.db.read(review_store.stale)
    await office.approvals.settle(run)

    assert waiting is not None
    assert "quarantined since" in waiting.reason
    assert stale == [run]
    judged = await office.world.db.read(lambda tx: review_store.find(tx, run))
    assert judged is not None
    assert judged.outcome == "approved"
