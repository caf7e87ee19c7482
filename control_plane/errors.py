"""The base of every error that a caller may see, with all that its google.rpc.Status needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2

from interlock.v1.errors_pb2 import ErrorReason

ERROR_DOMAIN = "interlock.dev"


class DomainError(Exception):
    """An answer of "no", to be read by the caller: what was wrong, where, what to do."""

    code = grpc.StatusCode.INTERNAL
    reason = ErrorReason.ERROR_REASON_INTERNAL

    def __init__(
        self, message: str, *, details: Sequence[Message] = (), metadata: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.details = tuple(details)
        self.metadata = dict(metadata or {})


class InvalidField(DomainError):
    """A field breaks its rule. `field` is its path in the request, as in `stack.name`."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    reason = ErrorReason.ERROR_REASON_INVALID_FIELD

    def __init__(self, field: str, problem: str) -> None:
        self.violations = [(field, problem)]
        super().__init__(f"{field}: {problem}", details=[_bad_request(self.violations)])

    @classmethod
    def of(cls, violations: Sequence[tuple[str, str]]) -> InvalidField:
        """Several at once, each (field, problem); the first makes the message."""
        error = cls(*violations[0])
        error.violations = list(violations)
        error.message = "; ".join(f"{field}: {problem}" for field, problem in violations)
        error.args = (error.message,)
        error.details = (_bad_request(violations),)
        return error


class NotFound(DomainError):
    code = grpc.StatusCode.NOT_FOUND
    reason = ErrorReason.ERROR_REASON_NOT_FOUND

    def __init__(self, resource_type: str, resource_id: str) -> None:
        super().__init__(
            f"no {resource_type} {resource_id!r}, or you may not read it",
            details=[error_details_pb2.ResourceInfo(resource_type=resource_type, resource_name=resource_id)],
        )


class AlreadyExists(DomainError):
    code = grpc.StatusCode.ALREADY_EXISTS
    reason = ErrorReason.ERROR_REASON_ALREADY_EXISTS

    def __init__(self, resource_type: str, resource_id: str, message: str = "") -> None:
        super().__init__(
            message or f"{resource_type} {resource_id!r} exists already; choose another id",
            details=[error_details_pb2.ResourceInfo(resource_type=resource_type, resource_name=resource_id)],
        )


class NotAllowed(DomainError):
    code = grpc.StatusCode.PERMISSION_DENIED
    reason = ErrorReason.ERROR_REASON_NOT_ALLOWED


class StaleEtag(DomainError):
    code = grpc.StatusCode.ABORTED
    reason = ErrorReason.ERROR_REASON_STALE_ETAG

    def __init__(self, resource_type: str, resource_id: str) -> None:
        super().__init__(
            f"{resource_type} {resource_id!r} was changed since you read it; read it again and repeat"
        )


class RequestIdReused(DomainError):
    code = grpc.StatusCode.INVALID_ARGUMENT
    reason = ErrorReason.ERROR_REASON_REQUEST_ID_REUSED

    def __init__(self, request_id: str) -> None:
        problem = f"{request_id!r} was used before with other content; make a new one"
        super().__init__(f"request_id: {problem}", details=[_bad_request([("request_id", problem)])])


class InUse(DomainError):
    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = ErrorReason.ERROR_REASON_IN_USE


class Unavailable(DomainError):
    """A part is away; the same call may succeed after `retry_after_s` seconds."""

    code = grpc.StatusCode.UNAVAILABLE

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        delay = Duration(nanos=0)
        delay.FromMilliseconds(int(retry_after_s * 1000))
        super().__init__(message, details=[error_details_pb2.RetryInfo(retry_delay=delay)])


class ShuttingDown(Unavailable):
    reason = ErrorReason.ERROR_REASON_SHUTTING_DOWN

    def __init__(self) -> None:
        super().__init__(
            "this server is shutting down and has not done what was asked; connect again, and follow from the offset "
            "that you have"
        )


class DatabaseUnavailable(Unavailable):
    reason = ErrorReason.ERROR_REASON_DATABASE_UNAVAILABLE


class ObjectStoreUnavailable(Unavailable):
    """It does not answer, or says no."""

    reason = ErrorReason.ERROR_REASON_OBJECT_STORE_UNAVAILABLE

    def __init__(self, cause: str) -> None:
        super().__init__(f"the object store cannot be used ({cause})", retry_after_s=2.0)


class DiskFull(DomainError):
    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = ErrorReason.ERROR_REASON_DISK_FULL


class LimitExceeded(DomainError):
    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = ErrorReason.ERROR_REASON_LIMIT_EXCEEDED


def reason_name(reason: ErrorReason.ValueType) -> str:
    """As it is sent: `STACK_LOCKED` for ERROR_REASON_STACK_LOCKED."""
    return ErrorReason.Name(reason).removeprefix("ERROR_REASON_")


def _bad_request(violations: Sequence[tuple[str, str]]) -> error_details_pb2.BadRequest:
    return error_details_pb2.BadRequest(
        field_violations=[
            error_details_pb2.BadRequest.FieldViolation(field=field, description=problem)
            for field, problem in violations
        ]
    )
