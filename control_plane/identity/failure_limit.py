"""How often wrong credentials are answered and audited: a few a minute for each peer, some hundreds for all.

Only failures count, so that somebody who shares an address with an attacker still gets in.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from control_plane.identity.errors import TooManyFailures

PEER_BURST: Final = 10
PEER_PER_MINUTE: Final = 10
ALL_BURST: Final = 600
ALL_PER_MINUTE: Final = 600
MAX_PEERS: Final = 10_000
_IPV6_NETWORK_BITS: Final = 64


@dataclass(slots=True)
class _Bucket:
    """Fills by `per_second` up to `burst`; each failure takes one."""

    burst: float
    per_second: float
    level: float
    filled_at: float

    def take(self, now: float) -> float:
        """0 where one was left; else the seconds until there is one."""
        self.level = min(self.burst, self.level + (now - self.filled_at) * self.per_second)
        self.filled_at = now
        if self.level < 1:
            return (1 - self.level) / self.per_second
        self.level -= 1
        return 0


class FailureLimit:
    """Bounded in memory: beyond MAX_PEERS the peer that failed longest ago is forgotten."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._everybody = self._bucket(ALL_BURST, ALL_PER_MINUTE)
        self._peers: dict[str, _Bucket] = {}

    def count(self, remote_ip: str) -> None:
        """Notes a failure. Raises TooManyFailures where there were too many; that one is not audited."""
        peer = _network(remote_ip)
        bucket = self._peers.pop(peer, None) or self._bucket(PEER_BURST, PEER_PER_MINUTE)
        self._peers[peer] = bucket
        if len(self._peers) > MAX_PEERS:
            del self._peers[next(iter(self._peers))]
        now = self._monotonic()
        wait_s = bucket.take(now) or self._everybody.take(now)
        if wait_s:
            raise TooManyFailures(wait_s)

    def _bucket(self, burst: int, per_minute: int) -> _Bucket:
        return _Bucket(burst, per_minute / 60, burst, self._monotonic())


def _network(remote_ip: str) -> str:
    """One peer: an IPv4 address, or an IPv6 network, of which a single machine may use every address."""
    try:
        address = ipaddress.ip_address(remote_ip)
    except ValueError:
        return remote_ip
    if address.version == 4:
        return remote_ip
    return str(ipaddress.ip_network((address, _IPV6_NETWORK_BITS), strict=False))
