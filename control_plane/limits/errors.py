"""What a limit refuses."""

from __future__ import annotations

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2

from control_plane.errors import DomainError
from control_plane.limits.limit import Reached
from interlock.v1.errors_pb2 import ErrorReason, QueueFull


class QueueIsFull(DomainError):
    """As many runs wait as a limit allows."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = ErrorReason.ERROR_REASON_QUEUE_FULL

    def __init__(self, reached: Reached, retry_after_s: int) -> None:
        super().__init__(
            f"{reached.count} runs of {reached.whose} wait, and a limit allows {reached.most}; nothing was created: "
            f"let some start first, try again in about {retry_after_s} s, or ask an admin (interlock limit set)",
            details=[
                QueueFull(limit=reached.to_proto()),
                error_details_pb2.RetryInfo(retry_delay=Duration(seconds=retry_after_s)),
            ],
        )
