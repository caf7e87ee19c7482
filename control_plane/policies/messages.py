"""Rows of policies as the API's messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from control_plane import errors
from control_plane.clock import to_timestamp
from control_plane.policies.errors import to_message
from interlock.v1 import policy_pb2
from policies.workbench.compiler import CompiledPolicy
from policies.workbench.kinds import Kind
from policies.workbench.syntax import RegoVersion


def kind_of(kind: policy_pb2.PolicyKind.ValueType) -> Kind:
    """Raises InvalidField where none was chosen."""
    match kind:
        case policy_pb2.POLICY_KIND_TASK:
            return Kind.TASK
        case policy_pb2.POLICY_KIND_ACCESS:
            return Kind.ACCESS
        case policy_pb2.POLICY_KIND_APPROVAL:
            return Kind.APPROVAL
        case policy_pb2.POLICY_KIND_LOGIN:
            return Kind.LOGIN
        case _:
            raise errors.InvalidField(
                "policy.kind",
                f"choose of {', '.join(f'POLICY_KIND_{kind.name}' for kind in Kind)}",
            )


def dialect_of(version: RegoVersion) -> policy_pb2.RegoVersion.ValueType:
    match version:
        case RegoVersion.V0:
            return policy_pb2.REGO_VERSION_V0
        case RegoVersion.V1:
            return policy_pb2.REGO_VERSION_V1


def to_policy(
    row: sa.Row[Any], attached_stack_ids: Sequence[str], *, with_body: bool = True
) -> policy_pb2.Policy:
    policy = policy_pb2.Policy(
        id=row.id,
        name=row.name,
        description=row.description,
        kind=policy_pb2.PolicyKind.Value(f"POLICY_KIND_{row.kind.upper()}"),
        body=row.body if with_body else "",
        labels=row.labels,
        rego_version=row.rego_version,
        revision=row.revision,
        attached_stack_ids=attached_stack_ids,
        etag=str(row.version),
        create_time=to_timestamp(row.created_at),
        update_time=to_timestamp(row.updated_at),
    )
    if row.quarantined_at is not None:
        policy.quarantine.since.CopyFrom(to_timestamp(row.quarantined_at))
        policy.quarantine.cause = row.quarantine_cause
    return policy


def with_warnings(policy: policy_pb2.Policy, compiled: CompiledPolicy | None) -> policy_pb2.Policy:
    """The policy as it was stored, with what was advised about its new text."""
    if compiled is not None:
        policy.warnings.extend(map(to_message, compiled.warnings))
    return policy
