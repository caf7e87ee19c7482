"""Runners of the model: a journal on a disk, containers that live on their own, and a stream that may break."""

from __future__ import annotations

from dataclasses import dataclass, field

from control_plane.pools.connections import RunnerConnection
from interlock.v1 import run_pb2
from interlock.v1 import runner_service_pb2 as rpc
from tests.integration.runs.model.expected import Ref
from tests.integration.runs.model.process import message_of


@dataclass(eq=False)
class Container:
    """Of one assignment. Its command begins with `go`, and with nothing else."""

    ref: Ref
    part: rpc.RunPart.ValueType
    is_alive: bool = True
    has_go: bool = False
    is_initializing: bool = False
    is_stopped: bool = False
    is_lost: bool = False

    @property
    def performs(self) -> bool:
        return self.is_alive and self.has_go

    def stop(self) -> None:
        """As it was asked to, unless its command performs."""
        if self.is_alive and not self.has_go:
            self.is_alive, self.is_stopped = False, True

    @property
    def plans(self) -> bool:
        return self.part == rpc.RUN_PART_PLAN


@dataclass(eq=False)
class Machine:
    """A runner and its engine. `journal` survives a restart, `containers` also the loss of the journal."""

    runner_id: str
    capacity: int
    boot: int = 1
    connection: RunnerConnection | None = None
    journal: dict[str, Container] = field(default_factory=dict)
    containers: list[Container] = field(default_factory=list)

    def take(self, assignment: rpc.Assignment) -> Container:
        """Into the journal, before it is accepted."""
        given = assignment.assignment
        ref = Ref(given.run_id, given.assignment_id, given.fencing_token, self.runner_id)
        container = Container(ref, assignment.job.part)
        self.journal[ref.assignment_id] = container
        self.containers.append(container)
        return container

    def remove(self, container: Container) -> None:
        self.journal.pop(container.ref.assignment_id, None)
        self.containers.remove(container)

    def reboot(self) -> None:
        """No container outlives it."""
        self.boot += 1
        for container in self.containers:
            container.is_lost = container.is_lost or container.is_alive
            container.is_alive = False

    def hello(self) -> rpc.Hello:
        return rpc.Hello(
            runner_id=self.runner_id,
            name=self.runner_id,
            capacity=self.capacity,
            boot_id=f"boot-{self.boot}",
            machine_id=f"machine of {self.runner_id}",
            held=[
                rpc.HeldAssignment(
                    assignment=message_of(each.ref),
                    phase=run_pb2.RUN_STATE_PERFORMING if each.has_go else run_pb2.RUN_STATE_PREPARING,
                )
                for each in self.journal.values()
            ],
        )
