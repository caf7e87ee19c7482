"""datetime to the API's Timestamp."""

from datetime import datetime

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
