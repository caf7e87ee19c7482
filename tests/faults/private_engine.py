"""A Docker Engine of a test's own, which it may restart: the one of the session belongs to every test."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

_STARTS_WITHIN_S = 60.0
_ENDS_WITHIN_S = 60.0


class PrivateEngine:
    """With its own folders, socket, containerd and network; its containers have no network."""

    def __init__(self, folder: Path, *, live_restore: bool) -> None:
        self._folder = folder
        self._live_restore = live_restore
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"unix://{folder / 'd.sock'}"

    def start(self) -> None:
        """Returns when it answers."""
        command = [
            # Without a bridge of its own it would take away the other engine's.
            "unshare", "--net", "dockerd", "--bridge=none", "--iptables=false", "--ip6tables=false",
            "--data-root", str(self._folder / "data"), "--exec-root", str(self._folder / "exec"),
            "--pidfile", str(self._folder / "d.pid"), "--host", self.url,
        ]  # fmt: skip
        if self._live_restore:
            command.append("--live-restore")
        with (self._folder / "dockerd.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + _STARTS_WITHIN_S
        while not self._answers():
            assert time.monotonic() < deadline, (self._folder / "dockerd.log").read_text()[-3000:]
            time.sleep(0.05)

    def stop(self) -> None:
        """SIGTERM, as a service manager does it."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(_ENDS_WITHIN_S)

    def end(self) -> None:
        """With all that runs in it."""
        if not self._answers():
            self.start()
        with contextlib.closing(docker.DockerClient(self.url)) as client:
            for container in client.containers.list(all=True):
                container.remove(force=True)
        self.stop()
        # It makes its folder a mount of its own and leaves it one, and sometimes a container's network.
        for mount in reversed(self._mounts()):
            subprocess.run(["umount", "--lazy", mount], stderr=subprocess.DEVNULL, check=False)

    def _mounts(self) -> list[str]:
        """Below its folder, the inner ones last."""
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        return sorted(mount for line in lines if (mount := line.split()[4]).startswith(f"{self._folder}/"))

    def _answers(self) -> bool:
        try:
            with contextlib.closing(docker.DockerClient(self.url)) as client:
                return bool(client.ping())
        except docker.errors.DockerException:
            return False


@contextlib.contextmanager
def started(
    folder: Path, image: str, source: docker.DockerClient, *, live_restore: bool
) -> Iterator[PrivateEngine]:
    """It has this image, from the engine `source`. Skips the test where none can be started."""
    if os.geteuid() != 0 or not (shutil.which("dockerd") and shutil.which("unshare")):
        pytest.skip("a Docker Engine of the test's own needs root, dockerd and unshare")
    engine = PrivateEngine(folder, live_restore=live_restore)
    engine.start()
    try:
        with contextlib.closing(docker.DockerClient(engine.url)) as client:
            client.images.load(b"".join(source.images.get(image).save(named=image)))
        yield engine
    finally:
        engine.end()
