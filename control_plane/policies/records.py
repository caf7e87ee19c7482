"""Decisions on record: one evaluation of all policies that apply, stored whole in the transaction of what it decided."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa

from control_plane import clock, ids
from control_plane.ids import DecisionId
from control_plane.storage.tables import counters, decisions

POLICIES_COUNTER = "policies"

_INSERT = sa.insert(decisions)
_VERSION = sa.select(counters.c.value).where(counters.c.name == POLICIES_COUNTER)
# Every change of a policy or an attachment counts: a decision that was judged before it is judged again.
_BUMP = sa.update(counters).where(counters.c.name == POLICIES_COUNTER).values(value=counters.c.value + 1)


@dataclass(frozen=True, kw_only=True)
class DecisionRecord:
    """What was asked, who judged and what came out. `document`, `policies` and `result` are plain JSON."""

    kind: str
    stack_id: str
    caller_login: str
    is_allowed: bool
    document: Mapping[str, Any]
    policies: list[dict[str, Any]]
    result: Mapping[str, Any]
    took_us: int
    is_sample: bool = False
    # What policies in shadow mode said; see `shadow`.
    shadow: list[dict[str, Any]] = field(default_factory=list)
    id: DecisionId = field(default_factory=lambda: DecisionId(ids.new_id("dec")))
    decided_at: int = field(default_factory=clock.now_us)

    def sanitized(self, checksums: Mapping[str, str]) -> DecisionRecord:
        """Without these secrets: each is replaced by its checksum, which is what `sanitized` gives for it."""
        if not checksums:
            return self
        return replace(
            self,
            document=without_secrets(self.document, checksums),
            policies=without_secrets(self.policies, checksums),
            result=without_secrets(self.result, checksums),
            shadow=without_secrets(self.shadow, checksums),
        )


def without_secrets(node: Any, checksums: Mapping[str, str]) -> Any:
    """Plain JSON with each secret replaced by its checksum."""
    longest_first = sorted(checksums, key=len, reverse=True)

    def clean(node: Any) -> Any:
        if isinstance(node, str):
            for secret in longest_first:
                node = node.replace(secret, checksums[secret])
            return node
        if isinstance(node, Mapping):
            return {key: clean(value) for key, value in node.items()}
        return [clean(each) for each in node] if isinstance(node, list | tuple) else node

    return clean(node)


@dataclass(frozen=True)
class Judgement:
    """A decision that allows, and the version of the policies that it stands for."""

    record: DecisionRecord
    policies_version: int
    # Approval policies apply: the run waits for them before it is queued.
    needs_approval: bool = False


def insert(connection: sa.Connection, record: DecisionRecord, *, run_id: str = "") -> None:
    """Stores it; `run_id` where it let a run be created."""
    connection.execute(
        _INSERT,
        {
            "id": record.id,
            "kind": record.kind,
            "stack_id": record.stack_id,
            "run_id": run_id,
            "caller_login": record.caller_login,
            "allowed": record.is_allowed,
            "input": json.dumps(record.document, ensure_ascii=False),
            "policies": json.dumps(record.policies, ensure_ascii=False),
            "result": json.dumps(record.result, ensure_ascii=False),
            "took_us": record.took_us,
            "decided_at": record.decided_at,
            "sample": record.is_sample,
            "shadow": json.dumps(record.shadow, ensure_ascii=False),
        },
    )


def policies_version(connection: sa.Connection) -> int:
    """Changes with every policy and every attachment."""
    return int(connection.execute(_VERSION).scalar_one())


def bump_policies_version(connection: sa.Connection) -> int:
    """Called in the transaction of every such change; returns the new version."""
    connection.execute(_BUMP)
    return policies_version(connection)
