"""Approval: a task waits in PENDING_REVIEW until its approval policies approve or reject it; the plan of a tracked run
is not confirmed before they approve it.

They are asked when a task is created or a plan is made, with every review, and when a policy that applies, an
attachment or the stack changes. As for CreateTask, OPA is asked outside of transactions; the one that moves the run
checks that what was judged still stands.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final

import sqlalchemy as sa
import structlog

from control_plane import clock, errors
from control_plane.audit import events
from control_plane.clock import to_timestamp
from control_plane.identity.principal import SYSTEM, Principal
from control_plane.policies import records
from control_plane.policies.approval import ApprovalJudge, ApprovalVerdict
from control_plane.policies.combine import Approval, PolicyRef
from control_plane.policies.errors import OpaUnavailable, PoliciesChanged
from control_plane.runs import moves, plans, review_store, store
from control_plane.runs.errors import WrongState
from control_plane.runs.notices import Notices
from control_plane.runs.review_input import reviews_of, run_info
from control_plane.runs.review_store import Judged
from control_plane.runs.states import RunState
from control_plane.stacks import snapshot
from control_plane.stacks.snapshot import StackSnapshot
from control_plane.storage import requests
from control_plane.storage.database import Database
from control_plane.storage.outputs import StoredOutput
from interlock.v1 import run_pb2
from interlock.v1 import run_service_pb2 as rpc

_METHOD = "ReviewRun"
# In these, approval policies have their say.
REVIEWED: Final = frozenset({RunState.PENDING_REVIEW, RunState.UNCONFIRMED})
_ATTEMPTS = 4
# Another control plane may have changed a policy; this one's own changes wake `serve` at once.
_LOOK_AGAIN_S = 5.0

log = structlog.get_logger(__name__)


class Approvals:
    """One per control plane."""

    def __init__(self, db: Database, judge: ApprovalJudge, notices: Notices) -> None:
        self._db = db
        self._judge = judge
        self._notices = notices
        self._awake = asyncio.Event()

    def wake(self) -> None:
        """Policies or stacks changed. Cheap; called from the event loop."""
        self._awake.set()

    async def serve(self) -> None:
        """Asks again for every run that waits and was judged by what is not there any more; until cancelled."""
        while True:
            try:
                for run_id in await self._db.read(review_store.stale):
                    await self.settle(run_id)
            except errors.DomainError as error:
                log.error("approvals.failed", error=str(error), retry_s=_LOOK_AGAIN_S)
            try:
                async with asyncio.timeout(_LOOK_AGAIN_S):
                    await self._awake.wait()
            except TimeoutError:
                continue
            self._awake.clear()

    async def review(self, reviewer: Principal, request: rpc.ReviewRunRequest) -> None:
        """Records a review and asks the policies again. The caller may read the stack.

        Raises:
            WrongState: the run does not wait for approval.
        """
        is_new = await self._db.write(lambda tx: _record_review(tx, reviewer, request))
        if is_new:
            self._notices.run_moved(request.run_id)
            await self.settle(request.run_id, by=reviewer)

    async def settle(self, run_id: str, *, by: Principal | None = None) -> None:
        """Asks the approval policies and moves the run as they say; `by` is whose call asks.

        Where they cannot be asked now, the run goes on waiting and shows why, and `serve` asks again.
        """
        for _ in range(_ATTEMPTS):
            basis = await self._db.read(lambda tx: look(tx, run_id))
            if basis is None:
                return
            try:
                settled = await self._settle(basis, by)
            except (OpaUnavailable, PoliciesChanged) as error:
                await self._still_waits(run_id, str(error))
                return
            match settled:
                case _Settled.CHANGED:
                    continue
                case _Settled.MOVED:
                    self._notices.run_moved(run_id)
                    self._notices.queue_changed(basis.stack.id)
                case _Settled.WAITS:
                    self._notices.run_moved(run_id)
                case _Settled.AS_BEFORE:
                    pass
            return
        self.wake()

    async def _settle(self, basis: Basis, by: Principal | None) -> _Settled:
        policies, version = await self._judge.policies_of(basis.stack)
        as_of = basis.as_of(policies, version)
        if as_of.is_still(basis.approval):
            return await self._db.write(lambda tx: _note_unchanged(tx, basis, as_of))
        current, older = reviews_of(basis.run, basis.reviews)
        verdict = await self._judge.judge(
            run_info(basis.run, basis.approval, basis.stack, basis.changes),
            basis.stack,
            current,
            older,
            caller_login=by.login if by else basis.run.creator_login,
        )
        settled = await self._db.write(lambda tx: _move(tx, basis, verdict))
        log.info(
            "run.judged",
            run_id=basis.run.id,
            outcome=verdict.outcome.value,
            decision_id=verdict.record.id,
            stands=settled is not _Settled.CHANGED,
        )
        return settled

    async def _still_waits(self, run_id: str, why: str) -> None:
        log.warning("run.not_judged", run_id=run_id, cause=why)
        await self._db.write(lambda tx: review_store.note(tx, run_id, why))
        self._notices.run_moved(run_id)


class _Settled(Enum):
    """What a judgement came to."""

    MOVED = auto()
    WAITS = auto()
    # Judged already, by just this.
    AS_BEFORE = auto()
    # What was judged does not stand any more: judge again.
    CHANGED = auto()


@dataclass(frozen=True, slots=True)
class Basis:
    """What a run is judged on, read at one moment."""

    run: sa.Row[Any]
    approval: sa.Row[Any]
    reviews: Sequence[sa.Row[Any]]
    stack: StackSnapshot
    # Of a tracked run's plan.
    changes: Sequence[run_pb2.ResourceChange]

    def as_of(self, policies: Sequence[PolicyRef], version: int) -> Judged:
        judged_by = [(policy.id, policy.revision) for policy in policies]
        return Judged(version, self.stack.version, len(self.reviews), judged_by)


def look(tx: sa.Connection, run_id: str) -> Basis | None:
    """What it would be judged on now; None where the run does not wait for approval (any more)."""
    run, approval = store.find(tx, run_id), review_store.find(tx, run_id)
    if run is None or approval is None or RunState(run.state) not in REVIEWED:
        return None
    stack = snapshot.load_any(tx, run.stack_id)
    return Basis(run, approval, review_store.reviews(tx, run_id), stack, plans.changes(tx, run_id))


def _held(tx: sa.Connection, basis: Basis, policies_version: int | None) -> sa.Row[Any] | None:
    """The run, to be moved in this transaction; None where it, its stack, reviews or policies are others by now.

    Without a version, the policies may be others.
    """
    run = store.find_to_move(tx, basis.run.id)
    if (
        run is None
        or run.state != basis.run.state
        or policies_version not in (None, records.policies_version(tx))
        or snapshot.version_of(tx, run.stack_id) != basis.stack.version
        or review_store.count(tx, run.id) != len(basis.reviews)
    ):
        return None
    return run


def _note_unchanged(tx: sa.Connection, basis: Basis, as_of: Judged) -> _Settled:
    if _held(tx, basis, as_of.policies_version) is None:
        return _Settled.CHANGED
    review_store.judged(tx, basis.run.id, as_of)
    return _Settled.AS_BEFORE


def _move(tx: sa.Connection, basis: Basis, verdict: ApprovalVerdict) -> _Settled:
    # A failure moves nothing, whatever the policies are by now, and is no judgement that could stand: it is repeated
    # with the next change of a policy, also of what is only noted of one, as its release from quarantine.
    run = _held(tx, basis, None if verdict.is_failure else verdict.policies_version)
    if run is None:
        return _Settled.CHANGED
    as_of = basis.as_of(() if verdict.is_failure else verdict.judged_by, verdict.policies_version)
    # Where no policy applies there is no decision, either.
    decision_id = verdict.record.id if verdict.judged_by else ""
    if decision_id:
        records.insert(tx, verdict.record, run_id=run.id)
    review_store.judged(
        tx, run.id, as_of, outcome=verdict.outcome.value, decision_id=decision_id, reason=verdict.reason
    )
    match verdict.outcome:
        case Approval.APPROVED if RunState(run.state) is RunState.PENDING_REVIEW:
            moves.advance(tx, run, RunState.QUEUED, verdict.reason)
            store.join_queue(tx, run)
            return _Settled.MOVED
        case Approval.APPROVED:
            return _plan_approved(tx, run, verdict)
        case Approval.REJECTED:
            # Before its first assignment a run has no output, and no hash of it.
            output = StoredOutput(run.output_size_bytes, run.output_sha256 or moves.NO_OUTPUT.sha256)
            failure = run_pb2.RUN_FAILURE_REJECTED
            moves.end(tx, run, RunState.FAILED, verdict.reason, failure=failure, output=output)
            return _Settled.MOVED
        case Approval.UNDECIDED:
            return _Settled.WAITS


def _plan_approved(tx: sa.Connection, run: sa.Row[Any], verdict: ApprovalVerdict) -> _Settled:
    """Whoever may write to the stack can confirm it now; one that was started to be confirmed is."""
    if run.auto_confirm:
        confirmation = run_pb2.Confirmation(confirm_time=to_timestamp(clock.now_us()))
        moves.advance(
            tx, run, RunState.CONFIRMED, f"{verdict.reason}; confirmed, as the run was started to be",
            confirmation=confirmation.SerializeToString(deterministic=True),
        )  # fmt: skip
        return _Settled.MOVED
    if verdict.judged_by:
        store.add_change(tx, run.id, RunState(run.state), verdict.reason)
        events.record(
            tx, SYSTEM, "run.plan_approved", "run", run.id, stack_id=run.stack_id,
            details={"decision_id": verdict.record.id, "reason": verdict.reason},
        )  # fmt: skip
    return _Settled.WAITS


def _record_review(tx: sa.Connection, reviewer: Principal, request: rpc.ReviewRunRequest) -> bool:
    """False where this request recorded it before."""
    if requests.find(tx, reviewer.id, _METHOD, request.request_id, request) is not None:
        return False
    run = store.find_to_move(tx, request.run_id)
    if run is None or RunState(run.state) not in REVIEWED:
        state = "gone" if run is None else run.state
        raise WrongState(
            request.run_id, f"{request.run_id} does not wait for approval: it is {state}, so no review counts"
        )
    approves = request.verdict == run_pb2.REVIEW_VERDICT_APPROVE
    review_id = review_store.insert_review(
        tx, run.id, reviewer, state=run.state, approves=approves, note=request.note
    )
    verb = "approved" if approves else "rejected"
    said = f"{verb} by {reviewer.login}" + (f": {request.note}" if request.note else "")
    store.add_change(tx, run.id, RunState(run.state), said)
    events.record(
        tx,
        reviewer,
        f"run.{verb}",
        "run",
        run.id,
        stack_id=run.stack_id,
        details={"review_id": review_id, "note": request.note},
    )
    requests.remember(tx, reviewer.id, _METHOD, request.request_id, request, run.id)
    return True
