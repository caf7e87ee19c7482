"""Names for creates: the same one again gives the same thing, not a second one."""

import uuid


def new_request_id() -> str:
    return uuid.uuid4().hex
