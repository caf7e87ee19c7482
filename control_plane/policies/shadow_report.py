"""What would have changed, had a policy in shadow mode counted: over the decisions that recorded it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import sqlalchemy as sa

from control_plane import errors
from control_plane.identity.principal import Principal
from control_plane.policies import decision_log, retrial, store
from control_plane.policies.decision_log import DecisionLog
from control_plane.storage.database import Database
from interlock.v1 import policy_pb2
from policies.workbench.kinds import Kind

_BATCH: Final = 500
_SHOWN: Final = 20


class ShadowReports:
    def __init__(self, db: Database, decisions: DecisionLog) -> None:
        self._db = db
        self._decisions = decisions

    async def of(self, principal: Principal, policy_id: str, since_us: int) -> policy_pb2.ShadowReport:
        """Over decisions of stacks that the caller may read. Raises NotFound for the policy."""
        if await self._db.read(lambda tx: store.find(tx, policy_id)) is None:
            raise errors.NotFound("policy", policy_id)
        tally, before_id = _Tally(policy_id), ""
        while True:
            rows = await self._db.read(partial(_batch, since_us, before_id))
            for row, may_read in zip(rows, await self._decisions.readable(principal, rows), strict=True):
                if may_read:
                    tally.add(row)
            if len(rows) < _BATCH:
                return tally.report()
            before_id = rows[-1].id


def _batch(since_us: int, before_id: str, tx: sa.Connection) -> Any:
    return decision_log.shadowed(tx, since_us, before_id, _BATCH)


@dataclass
class _Tally:
    """Counts, newest decision first."""

    policy_id: str
    decisions: int = 0
    stricter: int = 0
    more_lenient: int = 0
    failed: int = 0
    stacks: Counter[str] = field(default_factory=Counter)
    callers: Counter[str] = field(default_factory=Counter)
    messages: Counter[str] = field(default_factory=Counter)
    decision_ids: list[str] = field(default_factory=list)

    def add(self, row: sa.Row[Any]) -> None:
        for said in json.loads(row.shadow):
            if said["id"] != self.policy_id:
                continue
            self.decisions += 1
            if "failure" in said:
                self.failed += 1
            elif said.get("was") == said.get("would_be"):
                continue
            else:
                self._changed(row, said)
            self.decision_ids.append(row.id)

    def _changed(self, row: sa.Row[Any], said: Mapping[str, Any]) -> None:
        if retrial.is_stricter(Kind(said["kind"]), said["would_be"], said["was"]):
            self.stricter += 1
        else:
            self.more_lenient += 1
        self.stacks[row.stack_id] += 1
        self.callers[row.caller_login] += 1
        deny = said["results"].get("deny")
        self.messages.update(deny if isinstance(deny, list) else [said["would_be"]])

    def report(self) -> policy_pb2.ShadowReport:
        return policy_pb2.ShadowReport(
            policy_id=self.policy_id,
            decisions=self.decisions,
            stricter=self.stricter,
            more_lenient=self.more_lenient,
            failed=self.failed,
            stacks=_most(self.stacks),
            callers=_most(self.callers),
            messages=_most(self.messages),
            decision_ids=self.decision_ids[:_SHOWN],
        )


def _most(counter: Counter[str]) -> list[policy_pb2.ShadowCount]:
    ordered = sorted(counter.items(), key=lambda item: (-item[1], item[0]))
    return [
        policy_pb2.ShadowCount(subject=subject, changed=count)
        for subject, count in ordered[:_SHOWN]
        if subject
    ]
