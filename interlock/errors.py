"""What can go wrong, as a tree: catch the class that says what you would do about it.

Every error from the server keeps its gRPC code, its `reason` (proto enum ErrorReason) and its typed details.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import ClassVar, TypeVar

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from interlock.v1 import caller_pb2, errors_pb2, limit_pb2

DETAILS_KEY = "grpc-status-details-bin"
DOMAIN = "interlock.dev"

M = TypeVar("M", bound=Message)


class InterlockError(Exception):
    """The root. `str(error)` is one sentence for people; `reason` is the stable word for programs."""

    by_code: ClassVar[dict[grpc.StatusCode, type["InterlockError"]]] = {}
    by_reason: ClassVar[dict[str, type["InterlockError"]]] = {}

    code: grpc.StatusCode = grpc.StatusCode.UNKNOWN

    def __init_subclass__(cls, *, code: grpc.StatusCode | None = None, reasons: Sequence[str] = ()) -> None:
        super().__init_subclass__()
        if code is not None:
            cls.code = code
            InterlockError.by_code[code] = cls
        InterlockError.by_reason.update(dict.fromkeys(reasons, cls))

    def __init__(self, message: str, *, reason: str = "", details: Sequence[AnyMessage] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self._details = tuple(details)

    def detail(self, kind: type[M]) -> M:
        """The first detail of this type, or an empty one."""
        found = kind()
        for detail in self._details:
            if detail.Unpack(found):
                break
        return found


@dataclass(frozen=True)
class Violation:
    """One field that breaks its rule."""

    field: str
    description: str


class InvalidArgument(InterlockError, code=grpc.StatusCode.INVALID_ARGUMENT):
    """The request is at fault: correct it. Nothing was changed."""

    @property
    def violations(self) -> tuple[Violation, ...]:
        bad_request = self.detail(error_details_pb2.BadRequest)
        return tuple(Violation(each.field, each.description) for each in bad_request.field_violations)


class RequestIdReused(InvalidArgument, reasons=["REQUEST_ID_REUSED"]):
    """The request_id was used before with other content."""


class BadPageToken(InvalidArgument, reasons=["BAD_PAGE_TOKEN"]):
    """The page token is damaged or belongs to another query."""


class BadArchive(InvalidArgument, reasons=["BAD_ARCHIVE"]):
    """The uploaded archive is not acceptable."""


class PolicyRefused(InvalidArgument, reasons=["POLICY_REFUSED"]):
    """The policy's text does not parse, type-check or keep to the allowed built-ins."""

    @property
    def findings(self) -> tuple[errors_pb2.PolicyFinding, ...]:
        return tuple(self.detail(errors_pb2.PolicyRefused).findings)


class Unauthenticated(InterlockError, code=grpc.StatusCode.UNAUTHENTICATED):
    """The server does not know who calls, or wants TLS."""


class TokenRefused(Unauthenticated, reasons=["BAD_TOKEN"]):
    """The access token is not one of this server's, or its key was revoked."""


class TokenExpired(TokenRefused, reasons=["EXPIRED_TOKEN"]):
    """The access token's time is over. A client that was given an API key renews by itself."""


class BadCredentials(Unauthenticated, reasons=["BAD_CREDENTIALS"]):
    """No such API key, a wrong secret, expired or revoked."""


class PermissionDenied(InterlockError, code=grpc.StatusCode.PERMISSION_DENIED):
    """The caller is known and may not do this."""

    @property
    def decision_id(self) -> str:
        """The stored decision, where the refusal is one; else empty."""
        return self.detail(errors_pb2.DecisionLink).decision_id


class LoginDenied(PermissionDenied, reasons=["LOGIN_DENIED"]):
    """The API key is right, and login policies do not let it in. An admin sees why in `decision_id`."""


class TaskDenied(PermissionDenied, reasons=["TASK_DENIED"]):
    """A task policy denies the command. The denial is on record as `decision_id`."""

    @property
    def messages(self) -> tuple[str, ...]:
        return tuple(self.detail(errors_pb2.TaskDenied).messages)

    @property
    def policies(self) -> tuple[str, ...]:
        return tuple(self.detail(errors_pb2.TaskDenied).policies)

    @property
    def decision_id(self) -> str:
        return self.detail(errors_pb2.TaskDenied).decision_id


class NotFound(InterlockError, code=grpc.StatusCode.NOT_FOUND):
    """There is no such thing, or the caller may not read it."""

    @property
    def resource_type(self) -> str:
        return str(self.detail(error_details_pb2.ResourceInfo).resource_type)

    @property
    def resource_name(self) -> str:
        return str(self.detail(error_details_pb2.ResourceInfo).resource_name)


class AlreadyExists(InterlockError, code=grpc.StatusCode.ALREADY_EXISTS):
    """Another resource has this id or login."""


class FailedPrecondition(InterlockError, code=grpc.StatusCode.FAILED_PRECONDITION):
    """Not now: something else has to change first."""


class StackLocked(FailedPrecondition, reasons=["STACK_LOCKED"]):
    """Somebody else holds the stack's lock."""

    @property
    def stack_id(self) -> str:
        return self.detail(errors_pb2.StackLocked).stack_id

    @property
    def owner(self) -> caller_pb2.Caller:
        return self.detail(errors_pb2.StackLocked).owner

    @property
    def note(self) -> str:
        return self.detail(errors_pb2.StackLocked).note

    @property
    def lock_time(self) -> datetime:
        return self.detail(errors_pb2.StackLocked).lock_time.ToDatetime(UTC)


class StackBusy(FailedPrecondition, reasons=["STACK_BUSY"]):
    """A run is active on the stack."""


class WrongState(FailedPrecondition, reasons=["WRONG_STATE"]):
    """The run or stack is in a state in which this cannot be done."""


class FencedOut(FailedPrecondition, reasons=["FENCED_OUT"]):
    """The fencing token is not the current one: somebody else may have the slot."""


class SourceUnavailable(FailedPrecondition, reasons=["SOURCE_UNAVAILABLE"]):
    """The stack's source cannot be had: git refuses, or nothing was uploaded yet."""


class InUse(FailedPrecondition, reasons=["IN_USE"]):
    """Others still use the resource."""


class PolicyFailed(FailedPrecondition, reasons=["POLICY_FAILED"]):
    """A policy could not be evaluated, so the answer is no."""

    @property
    def policy_id(self) -> str:
        return self.detail(errors_pb2.PolicyFailure).policy_id

    @property
    def policy_name(self) -> str:
        return self.detail(errors_pb2.PolicyFailure).policy_name

    @property
    def cause(self) -> str:
        return self.detail(errors_pb2.PolicyFailure).cause

    @property
    def decision_id(self) -> str:
        return self.detail(errors_pb2.PolicyFailure).decision_id


class Aborted(InterlockError, code=grpc.StatusCode.ABORTED):
    """Somebody was quicker: read again and repeat."""


class StaleEtag(Aborted, reasons=["STALE_ETAG"]):
    """The etag is not the resource's current one."""


class ChangedMeanwhile(Aborted, reasons=["CHANGED_MEANWHILE"]):
    """Stack, lock or policies changed while the task was judged. The client has retried already."""


class OutOfRange(InterlockError, code=grpc.StatusCode.OUT_OF_RANGE):
    """A position past the end."""


class OffsetPastEnd(OutOfRange, reasons=["OFFSET_PAST_END"]):
    """The output offset is past the end of what is stored."""


class ResourceExhausted(InterlockError, code=grpc.StatusCode.RESOURCE_EXHAUSTED):
    """Too large, too often, or the server's disk is full: the message says which."""


class QueueFull(ResourceExhausted, reasons=["QUEUE_FULL"]):
    """As many runs of the stack or of the caller wait as an admin allows. Nothing was created: try again later."""

    @property
    def limit(self) -> limit_pb2.LimitReached:
        """Which limit it is, and how many wait."""
        return self.detail(errors_pb2.QueueFull).limit

    @property
    def retry_after_s(self) -> float:
        """By then there may be room: about as long as a run of the stack takes."""
        delay: timedelta = self.detail(error_details_pb2.RetryInfo).retry_delay.ToTimedelta()
        return delay.total_seconds()


class Unavailable(InterlockError, code=grpc.StatusCode.UNAVAILABLE):
    """The server, its policy engine or its database does not answer. The client has retried already."""

    @property
    def retry_after_s(self) -> float:
        delay: timedelta = self.detail(error_details_pb2.RetryInfo).retry_delay.ToTimedelta()
        return delay.total_seconds()


class DeadlineExceeded(InterlockError, code=grpc.StatusCode.DEADLINE_EXCEEDED):
    """No answer in time. Whether the change was made is not known: repeat it with the same request_id."""


class Internal(InterlockError, code=grpc.StatusCode.INTERNAL):
    """A fault of Interlock. Its log has more under the id in the message."""


class OutputMissing(InterlockError, reasons=["OUTPUT_MISSING"]):
    """Stored output was cut off or removed on the server. An admin can bring it back from a backup."""


class HoldLost(InterlockError):
    """A slot that was held, or waited for, is not to be had any more. What is done under it may meet another's."""


class OutputMismatch(InterlockError):
    """Output does not continue what was received before: a gap, a repetition or another digest."""


class Misconfigured(InterlockError):
    """The client's own settings: no address, an unreadable profile, plaintext to another machine."""


def from_rpc(error: grpc.aio.AioRpcError) -> InterlockError:
    """The error of the tree that a failed call stands for."""
    details = _details(error)
    reason = next((info.reason for info in _error_infos(details) if info.domain == DOMAIN), "")
    # Not this side's own doing, which is asyncio's CancelledError: a server ended in the moment in which the call came.
    code = grpc.StatusCode.UNAVAILABLE if error.code() is grpc.StatusCode.CANCELLED else error.code()
    kind = InterlockError.by_reason.get(reason) or InterlockError.by_code.get(code, InterlockError)
    problem = kind(_message(error), reason=reason, details=details)
    problem.code = error.code()
    return problem


def _message(error: grpc.aio.AioRpcError) -> str:
    """What went wrong, without the preamble that gRPC puts before a failure to connect."""
    text = error.details() or error.code().name
    return text.rpartition("last error: ")[2].removeprefix("UNKNOWN: ")


def _details(error: grpc.aio.AioRpcError) -> Sequence[AnyMessage]:
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            try:
                return tuple(status_pb2.Status.FromString(value).details)
            except DecodeError:
                return ()  # a proxy's invention: code and message still stand
    return ()


def _error_infos(details: Sequence[AnyMessage]) -> Sequence[error_details_pb2.ErrorInfo]:
    kind = error_details_pb2.ErrorInfo
    return [kind.FromString(each.value) for each in details if each.Is(kind.DESCRIPTOR)]
