"""What goes wrong with policies, each with what its google.rpc.Status needs. Every one of them means "no"."""

from __future__ import annotations

from collections.abc import Sequence

import grpc
from google.rpc import error_details_pb2

from control_plane.errors import DomainError, Unavailable
from interlock.v1 import errors_pb2
from interlock.v1.errors_pb2 import ErrorReason
from policies.workbench.findings import Finding, Severity

# gRPC drops an answer whose trailers are longer than 32 KiB, and these are in base64.
_MOST_BYTES = 12 << 10
_MOST_TEXT = 500
_MOST_IN_WORDS = 10


class PolicyRefused(DomainError):
    """The text does not parse, type-check or keep to what a policy may use. Nothing was changed."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    reason = ErrorReason.ERROR_REASON_POLICY_REFUSED

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = tuple(findings)
        shown = _fitting(self.findings)
        details = errors_pb2.PolicyRefused(findings=shown)
        super().__init__("\n".join(map(str, self.findings[:_MOST_IN_WORDS])), details=[details])


def to_message(finding: Finding) -> errors_pb2.PolicyFinding:
    return errors_pb2.PolicyFinding(
        file=finding.file,
        line=finding.line,
        column=finding.column,
        message=finding.message[:_MOST_TEXT],
        hint=finding.hint[:_MOST_TEXT],
        severity=_severity(finding.severity),
    )


def _severity(severity: Severity) -> errors_pb2.PolicyFindingSeverity.ValueType:
    match severity:
        case Severity.ERROR:
            return errors_pb2.POLICY_FINDING_SEVERITY_ERROR
        case Severity.WARNING:
            return errors_pb2.POLICY_FINDING_SEVERITY_WARNING


def _fitting(findings: Sequence[Finding]) -> list[errors_pb2.PolicyFinding]:
    """As many as an answer's trailers take; how many more there are is said last."""
    shown: list[errors_pb2.PolicyFinding] = []
    room = _MOST_BYTES
    for place, finding in enumerate(findings):
        told = to_message(finding)
        room -= told.ByteSize()
        if room < 0:
            more = f"{len(findings) - place} more are not shown; see all with: interlock policy check"
            shown.append(errors_pb2.PolicyFinding(file=finding.file, message=more))
            break
        shown.append(told)
    return shown


class TaskDenied(DomainError):
    """Task policies deny it; nothing was created, and the decision is recorded."""

    code = grpc.StatusCode.PERMISSION_DENIED
    reason = ErrorReason.ERROR_REASON_TASK_DENIED

    def __init__(self, messages: Sequence[str], policies: Sequence[str], decision_id: str) -> None:
        detail = errors_pb2.TaskDenied(
            messages=sorted(messages), policies=sorted(policies), decision_id=decision_id
        )
        super().__init__(f"denied by policy: {'; '.join(detail.messages)}", details=[detail])


class LoginDenied(DomainError):
    """Login policies refuse it; the decision is recorded."""

    code = grpc.StatusCode.PERMISSION_DENIED
    reason = ErrorReason.ERROR_REASON_LOGIN_DENIED

    def __init__(self, decision_id: str) -> None:
        super().__init__(
            f"login policies do not let you in; an admin sees why in decision {decision_id}",
            details=[errors_pb2.DecisionLink(decision_id=decision_id)],
        )


class EvaluationFailed(DomainError):
    """A policy could not be evaluated, so the answer is no; `policy_id` is None where it is not known."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = ErrorReason.ERROR_REASON_POLICY_FAILED

    def __init__(
        self,
        cause: str,
        *,
        policy_id: str | None = None,
        policy_name: str | None = None,
        decision_id: str = "",
    ) -> None:
        self.cause = cause
        self.policy_id = policy_id
        self.policy_name = policy_name
        subject = f"policy {policy_name!r}" if policy_name else "a policy"
        details = errors_pb2.PolicyFailure(
            policy_id=policy_id or "", policy_name=policy_name or "", cause=cause, decision_id=decision_id
        )
        super().__init__(f"{subject} could not be evaluated, so the answer is no: {cause}", details=[details])

    def recorded_as(self, decision_id: str) -> EvaluationFailed:
        """The same failure, with the decision under which it was stored."""
        return EvaluationFailed(
            self.cause, policy_id=self.policy_id, policy_name=self.policy_name, decision_id=decision_id
        )


class OpaUnavailable(Unavailable):
    """OPA does not answer in time, so the answer is no."""

    reason = ErrorReason.ERROR_REASON_POLICY_ENGINE_UNAVAILABLE

    def __init__(self, cause: str, *, decision_id: str = "") -> None:
        self.cause = cause
        super().__init__(f"the policy engine does not answer, so the answer is no: {cause}")
        if decision_id:
            self.details = (*self.details, errors_pb2.DecisionLink(decision_id=decision_id))

    def recorded_as(self, decision_id: str) -> OpaUnavailable:
        """The same failure, with the decision under which it was stored."""
        return OpaUnavailable(self.cause, decision_id=decision_id)


class PoliciesChanged(DomainError):
    """OPA holds a newer revision than the caller asked for: read what is attached again, and repeat."""

    code = grpc.StatusCode.ABORTED
    reason = ErrorReason.ERROR_REASON_CHANGED_MEANWHILE

    def __init__(self, policy_id: str) -> None:
        self.policy_id = policy_id
        super().__init__(
            f"policy {policy_id!r} was changed meanwhile; try again",
            details=[
                error_details_pb2.ResourceInfo(resource_type="interlock.v1.Policy", resource_name=policy_id),
            ],
        )
