"""datetime and timedelta to the API's Timestamp and Duration."""

from datetime import datetime, timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp


def timestamp(when: datetime | None) -> Timestamp | None:
    """ValueError where the time zone is missing: a local time sent as UTC would go wrong unseen."""
    if when is None:
        return None
    if when.tzinfo is None:
        raise ValueError(f"{when!r} has no time zone; use datetime.now(UTC) or .astimezone()")
    result = Timestamp()
    result.FromDatetime(when)
    return result


def duration(how_long: timedelta | None) -> Duration | None:
    if how_long is None:
        return None
    result = Duration()
    result.FromTimedelta(how_long)
    return result
