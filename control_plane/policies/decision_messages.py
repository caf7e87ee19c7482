"""Decisions as the API's messages: those that are stored, and those that are only explained."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from control_plane.clock import to_timestamp
from control_plane.policies.records import DecisionRecord
from interlock.v1 import decision_pb2, policy_pb2
from policies.workbench.kinds import Kind


def to_decision(row: sa.Row[Any], *, whole: bool) -> decision_pb2.Decision:
    """Of a stored row; `whole` with input and result."""
    message = decision_pb2.Decision(
        id=row.id,
        kind=_kind(row.kind),
        create_time=to_timestamp(row.decided_at),
        stack_id=row.stack_id,
        run_id=row.run_id,
        caller_login=row.caller_login,
        allowed=row.allowed,
        sample=row.sample,
        took_us=row.took_us,
    )
    _fill(message, json.loads(row.result), json.loads(row.policies), json.loads(row.shadow))
    if whole:
        message.input_json, message.result_json = row.input, row.result
    return message


def explained(record: DecisionRecord) -> decision_pb2.Decision:
    """Of a decision that was made to be shown and is not stored: it has no id."""
    message = decision_pb2.Decision(
        kind=_kind(record.kind),
        create_time=to_timestamp(record.decided_at),
        stack_id=record.stack_id,
        caller_login=record.caller_login,
        allowed=record.is_allowed,
        sample=record.is_sample,
        took_us=record.took_us,
        input_json=json.dumps(record.document, ensure_ascii=False),
        result_json=json.dumps(record.result, ensure_ascii=False),
    )
    _fill(message, record.result, record.policies, record.shadow)
    return message


def _fill(
    message: decision_pb2.Decision,
    result: Mapping[str, Any],
    said: list[dict[str, Any]],
    shadow: list[dict[str, Any]],
) -> None:
    message.outcome = _outcome(result)
    message.messages.extend(_messages(result))
    message.verdicts.extend(_verdict(each, is_shadow=False) for each in said)
    message.verdicts.extend(_verdict(each, is_shadow=True) for each in shadow)


def _outcome(result: Mapping[str, Any]) -> str:
    if "failure" in result:
        return "failed"
    if "outcome" in result:
        return str(result["outcome"])
    if result.get("access", "write") != "write":
        return "no access" if result["access"] == "none" else "read only"
    return "allowed" if result.get("allowed") else "denied"


def _messages(result: Mapping[str, Any]) -> list[str]:
    if "failure" in result:
        return [str(result["failure"])]
    if "reason" in result:
        return [str(result["reason"])]
    return sorted(map(str, result.get("messages", [])))


def _verdict(said: Mapping[str, Any], *, is_shadow: bool) -> decision_pb2.PolicyVerdict:
    return decision_pb2.PolicyVerdict(
        policy_id=said["id"],
        policy_name=said["name"],
        kind=_kind(said["kind"]),
        revision=said["revision"],
        results_json=json.dumps(said["results"], ensure_ascii=False) if "results" in said else "",
        shadow=is_shadow,
        would_be=said.get("would_be", ""),
        failure=said.get("failure", ""),
    )


def _kind(kind: str) -> policy_pb2.PolicyKind.ValueType:
    return policy_pb2.PolicyKind.Value(f"POLICY_KIND_{Kind(kind).name}")
