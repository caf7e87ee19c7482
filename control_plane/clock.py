"""Time as the database keeps it: whole microseconds since the Unix epoch, UTC."""

from __future__ import annotations

import time

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp


def now_us() -> int:
    return time.time_ns() // 1000


def to_timestamp(time_us: int) -> Timestamp:
    seconds, micros = divmod(time_us, 1_000_000)
    return Timestamp(seconds=seconds, nanos=micros * 1000)


def from_timestamp(timestamp: Timestamp) -> int:
    return timestamp.seconds * 1_000_000 + timestamp.nanos // 1000


def to_duration(duration_us: int) -> Duration:
    seconds, micros = divmod(duration_us, 1_000_000)
    return Duration(seconds=seconds, nanos=micros * 1000)


def from_duration(duration: Duration) -> int:
    return duration.seconds * 1_000_000 + duration.nanos // 1000
