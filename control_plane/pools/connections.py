"""The runners that are connected to this control plane now, and what they hold."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from interlock.v1 import runner_service_pb2 as rpc

# Messages that wait to be written to one runner. A runner that reads nothing for so long is cut off.
MAX_OUTGOING = 1024
MAX_SETTLED = 64


@dataclass(frozen=True, slots=True)
class HeldRun:
    """What an assignment stands for."""

    run_id: str
    stack_id: str
    fence: int
    # How much output the run had before this assignment.
    output_start: int = 0


@dataclass(eq=False, slots=True)
class RunnerConnection:
    """One stream of one runner."""

    runner_id: str
    pool_id: str
    token_id: str
    name: str
    version: str
    capacity: int
    boot_id: str
    last_seen_us: int
    machine_id: str = ""
    # Which of the runner's connections this is, over all replicas: the highest is the one that counts.
    epoch: int = 0
    status: rpc.RunnerStatus = field(default_factory=rpc.RunnerStatus)
    # By assignment id: what counts against the capacity.
    active: dict[str, HeldRun] = field(default_factory=dict)
    # Assignments whose result was recorded lately: what still comes of them is no fault of the runner's.
    settled: deque[str] = field(default_factory=lambda: deque(maxlen=MAX_SETTLED))
    # None ends the stream behind what was sent before.
    outgoing: asyncio.Queue[rpc.ConnectResponse | None] = field(default_factory=asyncio.Queue)
    # Set once what it held is settled: before that, it gets no work.
    is_welcomed: bool = False
    # Why the stream must end; set once.
    ended: asyncio.Future[Exception | None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    @property
    def takes_work(self) -> bool:
        is_away = self.status.draining or self.status.engine_away or self.ended.done()
        return self.is_welcomed and not is_away

    @property
    def free_capacity(self) -> int:
        return max(0, self.capacity - len(self.active)) if self.takes_work else 0

    def send(self, message: rpc.ConnectResponse) -> None:
        """Queues a message. Ends the stream where the runner has stopped reading."""
        if self.outgoing.qsize() >= MAX_OUTGOING:
            self.end(TimeoutError(f"runner {self.name} does not read its stream"))
        self.outgoing.put_nowait(message)

    def end(self, error: Exception | None) -> None:
        """Ends the stream, with an error for the runner or in peace."""
        if not self.ended.done():
            self.ended.set_result(error)


class Connections:
    """Every connected runner, by its id. `on_change` is called when capacity came, went or was freed."""

    def __init__(self) -> None:
        self._by_runner: dict[str, RunnerConnection] = {}
        self.on_change: Callable[[], None] = lambda: None

    def add(self, connection: RunnerConnection) -> RunnerConnection | None:
        """Registers a stream; returns the stream of the same runner that must be ended: mostly the other one."""
        other = self._by_runner.get(connection.runner_id)
        if other is not None and other.epoch > connection.epoch:
            return connection
        self._by_runner[connection.runner_id] = connection
        return other

    def remove(self, connection: RunnerConnection) -> bool:
        """False where a newer stream has taken its place."""
        if self._by_runner.get(connection.runner_id) is not connection:
            return False
        del self._by_runner[connection.runner_id]
        self.on_change()
        return True

    def of_runner(self, runner_id: str) -> RunnerConnection | None:
        return self._by_runner.get(runner_id)

    def all(self) -> Iterable[RunnerConnection]:
        return tuple(self._by_runner.values())

    def of_pool(self, pool_id: str) -> list[RunnerConnection]:
        return [connection for connection in self._by_runner.values() if connection.pool_id == pool_id]

    def end_token(self, token_id: str, error: Exception) -> None:
        """Ends the streams that were opened with a revoked pool token."""
        for connection in self.all():
            if connection.token_id == token_id:
                connection.end(error)

    def freed(self, connection: RunnerConnection, assignment_id: str) -> None:
        """An assignment is over; its place is free."""
        if connection.active.pop(assignment_id, None) is not None:
            connection.settled.append(assignment_id)
            self.on_change()
