"""What may be wrong with a call about a run."""

from __future__ import annotations

import grpc
from google.rpc import error_details_pb2

from control_plane.errors import AlreadyExists, DomainError
from interlock.v1.errors_pb2 import ErrorReason


class WrongState(DomainError):
    """The run is in a state in which this cannot be done."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = ErrorReason.ERROR_REASON_WRONG_STATE

    def __init__(self, run_id: str, message: str) -> None:
        failure = error_details_pb2.PreconditionFailure.Violation(
            type="RUN_STATE", subject=run_id, description=message
        )
        super().__init__(message, details=[error_details_pb2.PreconditionFailure(violations=[failure])])


class ChangedMeanwhile(DomainError):
    code = grpc.StatusCode.ABORTED
    reason = ErrorReason.ERROR_REASON_CHANGED_MEANWHILE

    def __init__(self, stack_id: str) -> None:
        super().__init__(
            f"stack {stack_id!r}, its lock or its policies kept changing while the task was judged; "
            "nothing was created, try again"
        )


class OffsetPastEnd(DomainError):
    code = grpc.StatusCode.OUT_OF_RANGE
    reason = ErrorReason.ERROR_REASON_OFFSET_PAST_END

    def __init__(self, offset: int, size: int) -> None:
        super().__init__(f"output_offset {offset} is past the end: {size} bytes are stored")


class LateOffsetPastEnd(DomainError):
    code = grpc.StatusCode.OUT_OF_RANGE
    reason = ErrorReason.ERROR_REASON_OFFSET_PAST_END

    def __init__(self, offset: int) -> None:
        super().__init__(
            f"output_offset {offset} is past the end of what the run's runner has reported so far"
        )


class OutputMissing(DomainError):
    """Stored output is gone or was cut off."""

    code = grpc.StatusCode.DATA_LOSS
    reason = ErrorReason.ERROR_REASON_OUTPUT_MISSING

    def __init__(self, run_id: str, offset: int, size: int) -> None:
        super().__init__(
            f"output of {run_id} ends at byte {offset}, and its record says {size}: "
            "the file in the server's data folder was cut off or removed; restore it from a backup"
        )


class NoSequence(DomainError):
    """The stack has no plan and apply of its own."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = ErrorReason.ERROR_REASON_WRONG_STATE

    def __init__(self, stack_id: str) -> None:
        message = (
            f"the tool of stack {stack_id!r} brings no plan and apply; set the stack's own "
            "(custom_plan and custom_apply) to make tracked runs"
        )
        violation = error_details_pb2.PreconditionFailure.Violation(
            type="STACK_TOOL", subject=stack_id, description=message
        )
        super().__init__(message, details=[error_details_pb2.PreconditionFailure(violations=[violation])])


class PlanGone(DomainError):
    """What a plan left cannot be had any more."""

    code = grpc.StatusCode.DATA_LOSS
    reason = ErrorReason.ERROR_REASON_OUTPUT_MISSING

    def __init__(self, run_id: str, cause: str) -> None:
        super().__init__(f"what the plan of {run_id} left cannot be had: {cause}; discard it and plan again")


class FencedOut(DomainError):
    """An assignment that is not current: another's, an older one, or one that is over."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = ErrorReason.ERROR_REASON_FENCED_OUT

    def __init__(self, run_id: str, assignment_id: str) -> None:
        super().__init__(
            f"assignment {assignment_id!r} of run {run_id!r} is not current; what it reports changes nothing, and its "
            "runner should let go of it"
        )


class StaleToken(DomainError):
    """A fencing token that is not the hold's."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = ErrorReason.ERROR_REASON_FENCED_OUT

    def __init__(self, run_id: str, token: int) -> None:
        message = (
            f"fencing token {token} is not that of {run_id}; nothing was changed: stop what is done under that token, or "
            "give the token that came with the hold"
        )
        failure = error_details_pb2.PreconditionFailure.Violation(
            type="FENCING_TOKEN", subject=run_id, description=message
        )
        super().__init__(message, details=[error_details_pb2.PreconditionFailure(violations=[failure])])


class OutputMismatch(DomainError):
    """Output does not continue what is stored."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    reason = ErrorReason.ERROR_REASON_OUTPUT_MISMATCH


class ProtocolVersion(DomainError):
    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = ErrorReason.ERROR_REASON_PROTOCOL_VERSION

    def __init__(self, theirs: int, ours: int) -> None:
        older = "runner" if theirs < ours else "control plane"
        super().__init__(
            f"the runner speaks protocol {theirs}, this control plane {ours}; upgrade the {older}"
        )


class TakenOver(AlreadyExists):
    def __init__(self, runner_id: str) -> None:
        super().__init__(
            "runner", runner_id, f"a newer stream of runner {runner_id!r} took over; is it running twice?"
        )
