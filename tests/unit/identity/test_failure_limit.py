"""How many wrong credentials are answered before a peer must wait."""

from __future__ import annotations

import pytest

from control_plane.identity import failure_limit
from control_plane.identity.errors import TooManyFailures
from control_plane.identity.failure_limit import FailureLimit


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def exhaust(limit: FailureLimit, remote_ip: str) -> None:
    for _ in range(failure_limit.PEER_BURST):
        limit.count(remote_ip)


def test_a_peer_that_failed_too_often_must_wait_and_is_told_how_long() -> None:
    clock = Clock()
    limit = FailureLimit(monotonic=clock)
    exhaust(limit, "192.0.2.1")

    with pytest.raises(TooManyFailures, match="wait 6 s"):
        limit.count("192.0.2.1")
    clock.now = 6
    limit.count("192.0.2.1")
    with pytest.raises(TooManyFailures):
        limit.count("192.0.2.1")


def test_one_peer_does_not_shut_another_out() -> None:
    limit = FailureLimit(monotonic=Clock())
    exhaust(limit, "192.0.2.1")

    limit.count("192.0.2.2")


def test_all_addresses_of_an_ipv6_network_are_one_peer() -> None:
    limit = FailureLimit(monotonic=Clock())
    exhaust(limit, "2001:db8::1")

    with pytest.raises(TooManyFailures):
        limit.count("2001:db8::ffff")
    limit.count("2001:db8:0:1::1")


def test_many_peers_together_are_limited_too() -> None:
    limit = FailureLimit(monotonic=Clock())
    for number in range(failure_limit.ALL_BURST):
        limit.count(f"192.0.{number // 256}.{number % 256}")

    with pytest.raises(TooManyFailures):
        limit.count("198.51.100.1")


def test_the_peers_kept_in_memory_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failure_limit, "MAX_PEERS", 3)
    limit = FailureLimit(monotonic=Clock())
    for number in range(10):
        limit.count(f"192.0.2.{number}")

    assert len(limit._peers) == 3
