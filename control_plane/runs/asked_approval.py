"""What approval policies say now of a task that might be created, or of a run that waits. Nothing is stored."""

from __future__ import annotations

from typing import Final

from control_plane import clock, errors
from control_plane.identity.principal import Principal
from control_plane.policies.approval import ApprovalJudge, ApprovalVerdict
from control_plane.policies.inputs import Commit, RunInfo
from control_plane.policies.tasks import session_of
from control_plane.runs import review, store
from control_plane.runs.errors import WrongState
from control_plane.runs.review_input import reviews_of, run_info
from control_plane.runs.states import RunState
from control_plane.stacks.snapshot import StackSnapshot
from control_plane.storage.database import Database

# What approval policies see as the id of a run that is not there.
_NO_RUN: Final = "run_00000000000000000000000000"


class AskedApprovals:
    """One per control plane."""

    def __init__(self, db: Database, judge: ApprovalJudge) -> None:
        self._db = db
        self._judge = judge

    async def of_task(self, principal: Principal, stack: StackSnapshot, command: str) -> ApprovalVerdict:
        """As if the caller created it this moment. Raises as ApprovalJudge.judge."""
        now_ns = clock.now_us() * 1000
        run = RunInfo(
            id=_NO_RUN,
            type="TASK",
            state=RunState.QUEUED.value,
            command=command,
            created_at=now_ns,
            updated_at=now_ns,
            branch=stack.git_ref,
            commit=Commit(hash="", branch=stack.git_ref),
            creator_session=session_of(principal),
            triggered_by=principal.login,
            before_init=stack.hooks.before_init[:],
            project_root=stack.project_root,
            runner_image=stack.image,
        )
        return await self._judge.judge(run, stack, (), (), caller_login=principal.login)

    async def stack_of(self, run_id: str) -> str:
        """The id of the stack of a run. Raises NotFound."""
        run = await self._db.read(lambda tx: store.find(tx, run_id))
        if run is None:
            raise errors.NotFound("run", run_id)
        return str(run.stack_id)

    async def of_run(self, run_id: str) -> ApprovalVerdict:
        """With its reviews, and its plan's changes.

        Raises:
            WrongState: it does not wait for approval.
        """
        basis = await self._db.read(lambda tx: review.look(tx, run_id))
        if basis is None:
            raise WrongState(run_id, f"{run_id} does not wait for approval")
        current, older = reviews_of(basis.run, basis.reviews)
        return await self._judge.judge(
            run_info(basis.run, basis.approval, basis.stack, basis.changes),
            basis.stack,
            current,
            older,
            caller_login=basis.run.creator_login,
        )
