"""What a caller hears who is not known here."""

from __future__ import annotations

import math

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2

from control_plane.errors import DomainError, LimitExceeded
from interlock.v1.errors_pb2 import ErrorReason


class Unauthenticated(DomainError):
    code = grpc.StatusCode.UNAUTHENTICATED
    reason = ErrorReason.ERROR_REASON_BAD_TOKEN


class NoToken(Unauthenticated):
    reason = ErrorReason.ERROR_REASON_NO_TOKEN

    def __init__(self) -> None:
        super().__init__(
            "the call carries no access token; exchange an API key (IdentityService.ExchangeApiKey) and send "
            "`authorization: Bearer TOKEN`"
        )


class BadToken(Unauthenticated):
    reason = ErrorReason.ERROR_REASON_BAD_TOKEN

    def __init__(self, problem: str) -> None:
        super().__init__(f"the access token is not valid: {problem}; exchange the API key again")


class ExpiredToken(Unauthenticated):
    reason = ErrorReason.ERROR_REASON_EXPIRED_TOKEN

    def __init__(self) -> None:
        super().__init__("the access token's time is over; exchange the API key again")


class BadCredentials(Unauthenticated):
    """Unknown, wrong, expired or revoked: which of these is for the audit log, not for the caller."""

    reason = ErrorReason.ERROR_REASON_BAD_CREDENTIALS

    def __init__(self, what: str) -> None:
        super().__init__(f"this {what} does not exist, is wrong, has expired or was revoked")


class TooManyFailures(LimitExceeded):
    """Wrong credentials, again and again. Right ones are still accepted meanwhile."""

    def __init__(self, retry_after_s: float) -> None:
        delay = Duration(seconds=math.ceil(retry_after_s))
        super().__init__(
            f"too many wrong credentials from your address; check them, and wait {delay.seconds} s",
            details=[error_details_pb2.RetryInfo(retry_delay=delay)],
        )
