"""What a pool may ask of its runs' containers. Above all: nothing that hands them the host's container engine."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator
from typing import Final

from google.protobuf.duration_pb2 import Duration

from control_plane.errors import InvalidField
from interlock.v1.pool_pb2 import ContainerOptions

# Docker refuses less: its own process in the container would not start.
MIN_MEMORY_BYTES: Final = 6 * 1024 * 1024
MAX_TIMEOUT_S: Final = 7 * 24 * 3600

# Where engines listen and keep their state; /proc has every socket a second time (/proc/1/root/run/docker.sock).
_OF_THE_ENGINE: Final = (
    "/proc",
    "/run/containerd",
    "/run/crio",
    "/run/docker",
    "/run/docker.sock",
    "/run/podman",
    "/run/user",
    "/var/lib/containerd",
    "/var/lib/containers",
    "/var/lib/docker",
)
_SOCKET_NAMES: Final = frozenset({"containerd.sock", "crio.sock", "docker.sock", "podman.sock"})
# The usual symbolic link of a Linux system; the others a runner sees when it resolves the path on its own host.
_LINKS: Final = {"/var/run": "/run"}
_OF_THE_CONTAINER: Final = ("/dev", "/mnt/workspace", "/proc", "/sys")


def check(container: ContainerOptions, field: str) -> None:
    """Raises InvalidField for all that is wrong; `field` is where the options stand in the request."""
    violations = [
        *(_memory(container.memory_bytes, f"{field}.memory_bytes")),
        *(_mounts(container.mounts, f"{field}.mounts")),
    ]
    for name in ("no_output_timeout", "total_timeout"):
        if container.HasField(name):
            violations += _timeout(getattr(container, name), f"{field}.{name}")
    if violations:
        raise InvalidField.of(violations)


def _memory(memory_bytes: int, field: str) -> Iterator[tuple[str, str]]:
    if 0 < memory_bytes < MIN_MEMORY_BYTES:
        yield field, f"must be 0 or at least {MIN_MEMORY_BYTES} (6 MiB)"


def _timeout(timeout: Duration, field: str) -> Iterator[tuple[str, str]]:
    if not 0 < timeout.seconds + timeout.nanos / 1e9 <= MAX_TIMEOUT_S:
        yield field, "must be more than 0 and at most 7 days"


def _mounts(mounts: Iterable[str], field: str) -> Iterator[tuple[str, str]]:
    targets: set[str] = set()
    for index, mount in enumerate(mounts):
        place = f"{field}[{index}]"
        host, _, rest = mount.partition(":")
        target, _, mode = rest.partition(":")
        if mount.count(":") not in (1, 2) or (mount.count(":") == 2 and mode != "ro"):
            yield place, "must be HOST_PATH:CONTAINER_PATH or HOST_PATH:CONTAINER_PATH:ro"
        elif problem := _path(host, "host") or _path(target, "container"):
            yield place, problem
        elif (
            _is_or_holds_or_is_in(_resolved(host), _OF_THE_ENGINE)
            or posixpath.basename(host) in _SOCKET_NAMES
        ):
            yield place, f"{host} would hand the container engine of the runner's host to every run"
        elif _is_or_holds_or_is_in(posixpath.normpath(target), _OF_THE_CONTAINER):
            yield place, f"{target} is a path that the container itself needs"
        elif posixpath.normpath(target) in targets:
            yield place, f"{target} is mounted twice"
        targets.add(posixpath.normpath(target))


def _path(path: str, side: str) -> str:
    if not path.startswith("/"):
        return f"the {side} path must be absolute"
    if ".." in path.split("/") or not path.isprintable():
        return f"the {side} path must have no `..` and no control characters"
    return ""


def _resolved(path: str) -> str:
    # normpath leaves two leading slashes, which POSIX lets mean something else. Here they do not.
    normal = "/" + posixpath.normpath(path).lstrip("/")
    for link, target in _LINKS.items():
        if normal == link or normal.startswith(f"{link}/"):
            return target + normal.removeprefix(link)
    return normal


def _is_or_holds_or_is_in(path: str, places: Iterable[str]) -> bool:
    """Mounting what holds a place gives the place too."""
    prefix = path.rstrip("/") + "/"
    return any(path == place or place.startswith(prefix) or path.startswith(f"{place}/") for place in places)
