"""Ids: a prefix that tells the noun and 26 characters that sort by time (a ULID in lower case)."""

from __future__ import annotations

import base64
import re
import secrets
import threading
import time
from typing import NewType

RunId = NewType("RunId", str)
StackId = NewType("StackId", str)
PoolId = NewType("PoolId", str)
DecisionId = NewType("DecisionId", str)

# Crockford's base 32, as in https://github.com/ulid/spec, in lower case; from the alphabet of b32hexencode.
_CROCKFORD = str.maketrans("0123456789ABCDEFGHIJKLMNOPQRSTUV", "0123456789abcdefghjkmnpqrstvwxyz")
_CHARACTERS = 26
# The time has 48 bits.
_LAST_MS = 2**48 - 1
_NOT_SLUG = re.compile(r"[^a-z0-9]+")


class _Clock:
    """Keeps ids of one process in order even within one millisecond, whichever thread asks."""

    lock = threading.Lock()
    last_ms = 0
    last_random = 0


def new_id(prefix: str) -> str:
    """`PREFIX_` and 26 characters; later ids of this process are greater."""
    now_ms = time.time_ns() // 1_000_000
    with _Clock.lock:
        if now_ms <= _Clock.last_ms:
            _Clock.last_random += 1 + secrets.randbits(16)
        else:
            _Clock.last_ms, _Clock.last_random = now_ms, secrets.randbits(79)
        number = (_Clock.last_ms << 80) | _Clock.last_random
    return _spelled(prefix, number)


def first_id(prefix: str, time_us: int) -> str:
    """The least id that can be made at this moment: all earlier ones are less."""
    return _spelled(prefix, min(max(time_us // 1000, 0), _LAST_MS) << 80)


def slug(name: str) -> str:
    """An id made from a name: `Prod network/EU` gives `prod-network-eu`; empty where nothing is left."""
    return _NOT_SLUG.sub("-", name.lower()).strip("-")[:63].strip("-")


def _spelled(prefix: str, number: int) -> str:
    # 20 bytes are 32 characters without padding.
    spelled = base64.b32hexencode(number.to_bytes(20, "big")).decode()[-_CHARACTERS:]
    return f"{prefix}_{spelled.translate(_CROCKFORD)}"
