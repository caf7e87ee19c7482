"""The folder of `interlock dev`: everything it keeps, for one instance at a time."""

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from interlock.errors import Misconfigured


class DevFolder:
    """Where things lie. Secrets have mode 0600 in a folder of mode 0700."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().absolute()
        self.server_dir = self.path / "server"
        self.runner_dir = self.path / "runner"
        self.admin_key_file = self.path / "admin.key"
        self.pool_token_file = self.path / "pool.token"
        self._server_json = self.server_dir / "server.json"

    def log_file(self, name: str) -> Path:
        return self.path / f"{name}.log"

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Makes the folder and keeps every other `interlock dev` out of it."""
        try:
            for folder in (self.path, self.server_dir, self.runner_dir):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Misconfigured(f"{error.filename}: {error.strerror}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise Misconfigured(
                f"another `interlock dev` works in {self.path}; end it, or give this one another --data-dir"
            ) from None
        try:
            yield
        finally:
            os.close(lock)

    def listen_address(self) -> str:
        """Where the last one listened if that is free, so that clients find this one again; else any port."""
        host, _, port = self.server_address().rpartition(":")
        if not host or not port.isdigit():
            return "127.0.0.1:0"
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, int(port)))
            except OSError:
                return "127.0.0.1:0"
        return f"{host}:{port}"

    def server_address(self) -> str:
        """What the control plane wrote when it was ready; empty before its first start."""
        try:
            return str(json.loads(self._server_json.read_text(encoding="utf-8"))["address"])
        except (FileNotFoundError, ValueError, KeyError):
            return ""

    def read_secret(self, file: Path) -> str:
        """Empty where there is none yet."""
        try:
            return file.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return ""

    def write_secret(self, file: Path, secret: str) -> None:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as target:
            target.write(secret + "\n")
