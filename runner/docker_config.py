"""What a run's container is for Docker: the body of its create request, made from a `ContainerSpec`."""

from __future__ import annotations

from runner import mounts
from runner.engine import RUN_UID, ContainerSpec, Limits
from runner.errors import EngineRefused
from runner.script import SOURCE, main_process

# Above any output: what rotates out is lost without a word, and replay after a crash needs every byte.
_LOG = {"Type": "local", "Config": {"compress": "false", "max-size": "1024g", "max-file": "1"}}


def of(spec: ContainerSpec) -> dict[str, object]:
    """The body of Docker's create request. Raises `EngineRefused` or `MountRefused` for a mount that no run may have."""
    return {
        "Image": spec.image,
        "Entrypoint": main_process(spec.end_line),
        "Cmd": [],
        "User": f"{RUN_UID}:{RUN_UID}",
        "WorkingDir": SOURCE,
        # The container's init then passes SIGTERM on to all of the script's processes, not only to its shell.
        "Env": ["TINI_KILL_PROCESS_GROUP=1"],
        "Labels": dict(spec.labels),
        "AttachStdin": True,
        "OpenStdin": True,
        "StdinOnce": False,
        "Tty": False,
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": {
            # Without an init a shell ignores SIGTERM, and stopping takes 10 s.
            "Init": True,
            "LogConfig": _LOG,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "NetworkMode": spec.network_mode or "default",
            "Binds": [_mount(mount) for mount in spec.mounts],
            "RestartPolicy": {"Name": "no"},
            **({"Runtime": spec.runtime} if spec.runtime else {}),
            **_limits(spec.limits),
        },
    }


def _limits(limits: Limits) -> dict[str, int]:
    return {
        "Memory": limits.memory_bytes,
        "MemorySwap": limits.memory_bytes,
        "NanoCpus": limits.cpu_millis * 1_000_000,
        "PidsLimit": limits.pids or -1,
    }


def _mount(mount: str) -> str:
    host, _, rest = mount.partition(":")
    target, _, mode = rest.partition(":")
    if not host.startswith("/") or not target.startswith("/") or mode not in {"", "ro", "rw"}:
        raise EngineRefused(f"mount {mount!r} is not HOST_PATH:CONTAINER_PATH[:ro] with absolute paths")
    mounts.check([mount])
    return mount
