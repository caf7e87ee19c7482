"""Reviews in the database, and what the approval policies of a run were last asked with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from control_plane import clock, ids
from control_plane.identity.principal import Principal
from control_plane.storage.tables import counters, run_approvals, run_reviews, runs, stacks

_INSERT = sa.insert(run_approvals)
_FIND = sa.select(run_approvals).where(run_approvals.c.run_id == sa.bindparam("run_id"))
_UPDATE = sa.update(run_approvals).where(run_approvals.c.run_id == sa.bindparam("of_run"))
_INSERT_REVIEW = sa.insert(run_reviews)
_REVIEWS = (
    sa.select(run_reviews).where(run_reviews.c.run_id == sa.bindparam("run_id")).order_by(run_reviews.c.id)
)
_COUNT = sa.select(sa.func.count()).where(run_reviews.c.run_id == sa.bindparam("run_id"))
_COUNT_OF_RUN = (
    sa.select(sa.func.count()).where(run_reviews.c.run_id == run_approvals.c.run_id).scalar_subquery()
)
# Runs that wait and were judged by other policies, another stack or fewer reviews than there are now.
_STALE = (
    sa.select(runs.c.id)
    .join(run_approvals, run_approvals.c.run_id == runs.c.id)
    .join(stacks, stacks.c.id == runs.c.stack_id)
    .where(
        sa.or_(
            runs.c.state == sa.literal_column("'PENDING_REVIEW'"),
            runs.c.state == sa.literal_column("'UNCONFIRMED'"),
        ),
        sa.or_(
            run_approvals.c.policies_version.is_(None),
            run_approvals.c.policies_version
            != sa.select(counters.c.value).where(counters.c.name == "policies").scalar_subquery(),
            run_approvals.c.stack_version != stacks.c.version,
            run_approvals.c.reviews != _COUNT_OF_RUN,
        ),
    )
    .order_by(runs.c.id)
)


@dataclass(frozen=True, slots=True)
class Judged:
    """As of what a run was judged."""

    policies_version: int
    stack_version: int
    reviews: int
    judged_by: Sequence[tuple[str, int]]

    def is_still(self, approval: sa.Row[Any]) -> bool:
        """The row's judgement would only be repeated: the same policies, stack and reviews."""
        return (
            approval.policies_version is not None
            and approval.stack_version == self.stack_version
            and approval.reviews == self.reviews
            and [tuple(each) for each in approval.judged_by] == list(self.judged_by)
        )


def begin(connection: sa.Connection, run_id: str, creator_session: Mapping[str, object]) -> None:
    """The run waits for approval policies, which were not asked yet."""
    connection.execute(_INSERT, {"run_id": run_id, "creator_session": dict(creator_session)})


def find(connection: sa.Connection, run_id: str) -> sa.Row[Any] | None:
    """None where no approval policy ever applied to the run."""
    return connection.execute(_FIND, {"run_id": run_id}).one_or_none()


def judged(
    connection: sa.Connection,
    run_id: str,
    as_of: Judged,
    *,
    outcome: str = "",
    decision_id: str = "",
    reason: str = "",
) -> None:
    """Notes as of what it was judged; without an `outcome`, the last one still stands."""
    columns: dict[str, object] = {
        "policies_version": as_of.policies_version,
        "stack_version": as_of.stack_version,
        "reviews": as_of.reviews,
        "judged_by": [list(each) for each in as_of.judged_by],
    }
    if outcome:
        columns |= {"outcome": outcome, "decision_id": decision_id, "reason": reason}
    connection.execute(_UPDATE.values(**columns), {"of_run": run_id})


def note(connection: sa.Connection, run_id: str, reason: str) -> None:
    """Why it still waits, where its policies could not be asked. Nothing is written where it says so already."""
    connection.execute(
        _UPDATE.where(run_approvals.c.reason != reason).values(reason=reason), {"of_run": run_id}
    )


def stale(connection: sa.Connection) -> list[str]:
    """Ids of runs whose approval policies are to be asked again, oldest first."""
    return list(connection.execute(_STALE).scalars())


def insert_review(
    connection: sa.Connection,
    run_id: str,
    reviewer: Principal,
    *,
    state: str,
    approves: bool,
    note: str,
) -> str:
    """Returns the review's id."""
    review_id = ids.new_id("rev")
    connection.execute(
        _INSERT_REVIEW,
        {
            "id": review_id,
            "run_id": run_id,
            "reviewer_login": reviewer.login,
            "reviewer": reviewer.to_caller().SerializeToString(deterministic=True),
            "remote_ip": reviewer.remote_ip,
            "state": state,
            "approves": approves,
            "note": note,
            "created_at": clock.now_us(),
        },
    )
    return review_id


def reviews(connection: sa.Connection, run_id: str) -> Sequence[sa.Row[Any]]:
    """All of them, oldest first."""
    return connection.execute(_REVIEWS, {"run_id": run_id}).all()


def count(connection: sa.Connection, run_id: str) -> int:
    return int(connection.execute(_COUNT, {"run_id": run_id}).scalar_one())
