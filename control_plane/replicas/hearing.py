"""What a note of another control plane leads to: what it would here, but that nobody is told again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from control_plane.identity.authenticator import Authenticator
from control_plane.identity.errors import BadCredentials
from control_plane.pools.connections import Connections
from control_plane.replicas.notes import Kind, Note
from control_plane.runs.errors import TakenOver
from control_plane.runs.feeds import Feeds
from control_plane.runs.stop import ask_runner


@dataclass(frozen=True)
class Hearing:
    feeds: Feeds
    connections: Connections
    authenticator: Authenticator
    wake_scheduler: Callable[[], None]
    policies_changed: Callable[[], None]

    def hear(self, note: Note) -> None:
        """On the event loop; returns at once."""
        _REACTIONS[note.kind](self, note.subject)

    def stack_changed(self, stack_id: str) -> None:
        self.feeds.stack_changed(stack_id)
        self.wake_scheduler()

    def limits_changed(self) -> None:
        self.feeds.capacity_changed()
        self.wake_scheduler()

    def pool_deleted(self, pool_id: str) -> None:
        for connection in self.connections.of_pool(pool_id):
            connection.end(BadCredentials("pool token"))

    def taken_over(self, subject: str) -> None:
        """`subject`: RUNNER_ID/EPOCH, of its newest connection."""
        runner_id, _, epoch = subject.partition("/")
        connection = self.connections.of_runner(runner_id)
        if connection is not None and connection.epoch < int(epoch):
            connection.end(TakenOver(runner_id))


_REACTIONS: Final[Mapping[Kind, Callable[[Hearing, str], object]]] = {
    Kind.RUN: lambda here, run_id: here.feeds.run_changed(run_id),
    Kind.OUTPUT: lambda here, run_id: here.feeds.output_grew(run_id),
    Kind.STACK: Hearing.stack_changed,
    Kind.STOP: lambda here, run_id: ask_runner(here.connections, run_id),
    Kind.RUNNERS: lambda here, _: here.feeds.capacity_changed(),
    Kind.LIMITS: lambda here, _: here.limits_changed(),
    Kind.TAKEN_OVER: Hearing.taken_over,
    Kind.POOL_TOKEN: lambda here, token_id: here.connections.end_token(
        token_id, BadCredentials("pool token")
    ),
    Kind.POOL: Hearing.pool_deleted,
    Kind.KEY: lambda here, key_id: here.authenticator.forget(key_id),
    Kind.POLICIES: lambda here, _: here.policies_changed(),
}
