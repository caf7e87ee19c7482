"""What a runner needs of a container engine: a small interface, and the values that cross it.

Every method may raise `EngineUnavailable` and `EngineRefused`, and those that name a container
`ContainerGone` (runner/errors.py). None blocks the event loop. A cancelled call may still take effect.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import BinaryIO, NewType, Protocol

ContainerId = NewType("ContainerId", str)

RUN_UID = 1983

MAX_READ_BYTES = 256 * 1024
"""What one `read` gives at most."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one container may use. 0 means no limit."""

    memory_bytes: int = 2 << 30
    cpu_millis: int = 0
    """Thousandths of a core."""
    pids: int = 1024


@dataclass(frozen=True, kw_only=True)
class ContainerSpec:
    """A container to create. Holds no secret: anyone who can ask the engine can read it."""

    name: str
    image: str
    end_line: str
    """Ends a block of script (runner/script.py)."""
    labels: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = Limits()
    network_mode: str = ""
    """The engine's; "" for its default."""
    mounts: tuple[str, ...] = ()
    """HOST_PATH:CONTAINER_PATH[:ro]"""
    runtime: str = ""
    """The engine's; "" for its default."""


class ContainerState(StrEnum):
    CREATED = "created"
    RUNNING = "running"
    ENDED = "ended"


@dataclass(frozen=True, kw_only=True)
class FoundContainer:
    id: ContainerId
    name: str
    labels: Mapping[str, str]
    state: ContainerState


@dataclass(frozen=True)
class ContainerExit:
    exit_code: int
    out_of_memory: bool = False
    """The kernel killed a process of the container because of its memory limit."""


class OutputStream(Protocol):
    """Bytes that a container wrote: stdout and stderr in one, in order."""

    async def read(self) -> bytes:
        """The next bytes, as many as there are up to `MAX_READ_BYTES`; b"" when the stream has ended.

        One reader at a time. Not reading holds the container back. Raises `StreamCut` when the connection broke;
        after an end or a cut, only `wait` and `find` tell what became of the container.
        """

    async def close(self) -> None:
        """Stops reading. The container goes on."""


class InputStream(Protocol):
    """The container's standard input."""

    async def feed(self, data: bytes) -> None:
        """Returns when the engine has taken the bytes, which proves nothing about the container.

        One that has ended may take none of them for ever: its output's end tells, and `close` ends the wait.
        Raises `StreamCut` when the connection is closed or broken.
        """

    async def close(self) -> None:
        """Lets go of the input, which stays open for the next who attaches."""


PullStatus = Mapping[str, object]
"""One message of the engine's about a pull in progress."""


@dataclass(frozen=True)
class EngineIdentity:
    id: str
    """The same as long as its containers may be there; empty: it does not tell."""
    is_local: bool
    """Its containers end with this machine."""


class Engine(Protocol):
    async def identity(self) -> EngineIdentity: ...

    async def ping(self) -> str:
        """The engine's version, for people."""

    async def image_id(self, image: str) -> str:
        """What the name means now; "" when there is no such image."""

    async def image_of(self, container: ContainerId) -> str:
        """The id of the image that the container was made from."""

    async def pull(self, image: str, on_status: Callable[[PullStatus], None]) -> None:
        """Calls `on_status` on the event loop. Raises `ImageUnavailable`."""

    async def create(self, spec: ContainerSpec) -> ContainerId:
        """Raises `ImageUnavailable` when there is no such image."""

    async def rename(self, container: ContainerId, name: str) -> None: ...

    async def attach_output(self, container: ContainerId) -> OutputStream:
        """What it writes from now on: before `start`, so that no byte is missed."""

    async def attach_input(self, container: ContainerId) -> InputStream:
        """At any time, and again after another process's connection was cut."""

    async def start(self, container: ContainerId) -> None: ...

    async def put_archive(self, container: ContainerId, archive: bytes | BinaryIO) -> None:
        """Unpacks a tar at the container's root. Owners and modes are those in the archive."""

    async def read_archive(self, container: ContainerId, path: str, take: Callable[[BinaryIO], None]) -> None:
        """Gives `take` a tar of a folder as a stream, in a thread. The container may have ended."""

    async def wait(self, container: ContainerId) -> ContainerExit:
        """Returns when the main process has ended. Drain the output first: it is not part of this."""

    async def stop(self, container: ContainerId, *, grace_s: float) -> None:
        """SIGTERM to all its processes, SIGKILL after the grace. To a container that has ended, nothing."""

    async def remove(self, container: ContainerId) -> None:
        """Kills and removes it with all that it wrote. One that is gone already is no error."""

    async def find(self, labels: Mapping[str, str]) -> list[FoundContainer]:
        """All containers, ended ones too, that have these labels."""

    async def replay(self, container: ContainerId) -> OutputStream:
        """All output from its first byte, exactly, and then on as it is written, until the container ends.

        Much slower than `attach`; for a container that another process had attached to.
        """

    async def close(self) -> None:
        """Gives up all connections. Containers go on."""
