"""What may be wrong with a call about a stack."""

from __future__ import annotations

import grpc
from google.rpc import error_details_pb2

from control_plane import clock
from control_plane.errors import DomainError
from interlock.v1 import caller_pb2, errors_pb2
from interlock.v1.errors_pb2 import ErrorReason


class StackLocked(DomainError):
    """Somebody else holds the stack's lock."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = ErrorReason.ERROR_REASON_STACK_LOCKED

    def __init__(self, stack_id: str, owner: caller_pb2.Caller, note: str, locked_at: int) -> None:
        message = f"stack {stack_id!r} is locked by {owner.login}" + (f": {note}" if note else "")
        detail = errors_pb2.StackLocked(
            stack_id=stack_id, owner=owner, note=note, lock_time=clock.to_timestamp(locked_at)
        )
        super().__init__(message, details=[detail, _violation("STACK_LOCK", stack_id, message)])


class StackBusy(DomainError):
    """A run is active or queued on the stack."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = ErrorReason.ERROR_REASON_STACK_BUSY

    def __init__(self, stack_id: str, run_id: str, state: str) -> None:
        message = f"stack {stack_id!r} has a run, {run_id}, that is {state}; wait for its end or discard it"
        super().__init__(message, details=[_violation("STACK_RUN", run_id, message)])


class SourceIsGit(DomainError):
    """An upload for a stack whose source is git."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = ErrorReason.ERROR_REASON_WRONG_STATE

    def __init__(self, stack_id: str) -> None:
        message = f"the source of stack {stack_id!r} is git; set its source to an archive first"
        super().__init__(message, details=[_violation("STACK_SOURCE", stack_id, message)])


class SourceUnavailable(DomainError):
    """The source cannot be had; the message is git's own where git said something."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = ErrorReason.ERROR_REASON_SOURCE_UNAVAILABLE

    def __init__(self, stack_id: str, cause: str) -> None:
        message = f"the source of stack {stack_id!r} cannot be had: {cause}"
        super().__init__(message, details=[_violation("STACK_SOURCE", stack_id, message)])


class BadArchive(DomainError):
    """An uploaded archive is not what its header said, or not acceptable."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    reason = ErrorReason.ERROR_REASON_BAD_ARCHIVE

    def __init__(self, problem: str) -> None:
        violation = error_details_pb2.BadRequest.FieldViolation(field="chunk", description=problem)
        super().__init__(
            f"the archive {problem}; the stack's source is unchanged",
            details=[error_details_pb2.BadRequest(field_violations=[violation])],
        )


def _violation(kind: str, subject: str, description: str) -> error_details_pb2.PreconditionFailure:
    violation = error_details_pb2.PreconditionFailure.Violation(
        type=kind, subject=subject, description=description
    )
    return error_details_pb2.PreconditionFailure(violations=[violation])
