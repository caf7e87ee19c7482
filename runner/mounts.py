"""The pool's mounts, looked at on this host: the control plane sees their spelling, only the runner where they lead."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from runner.errors import MountRefused

# Where container engines listen, those of single users too, and keep what they hold.
_OF_THE_ENGINE = (
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


def check(mounts: Iterable[str]) -> None:
    """Follows every link of every mount's host path.

    Raises:
        MountRefused: one leads to a socket, or to what belongs to the host's container engine.
    """
    for mount in mounts:
        host = mount.partition(":")[0]
        try:
            real = os.path.realpath(host)
        except OSError as error:
            raise MountRefused(
                f"the pool mounts {host}, which cannot be followed on this host: {error}"
            ) from error
        if _gives_the_engine(real) or _is_socket(Path(real)):
            raise MountRefused(
                f"the pool mounts {host}, which on this host is {real}: that would hand the container engine to the run; "
                "an admin can change it with `interlock pool update`"
            )


def _gives_the_engine(real: str) -> bool:
    below = real.rstrip("/") + "/"
    return any(
        real == place or place.startswith(below) or real.startswith(f"{place}/") for place in _OF_THE_ENGINE
    )


def _is_socket(path: Path) -> bool:
    try:
        return stat.S_ISSOCK(path.stat().st_mode)
    except OSError:
        # Not there, or not on this host: the engine says what it thinks of it.
        return False
