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
        self._address_file = self.path / "address"

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
        host, _, port = _text_of(self._address_file).rpartition(":")
        if not host or not port.isdigit():
            return "127.0.0.1:0"
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, int(port)))
            except OSError:
                return "127.0.0.1:0"
        return f"{host}:{port}"

    def note_address(self) -> str:
        """Where the control plane says that it listens, now that it is ready; kept for the next start."""
        address = str(json.loads((self.server_dir / "server.json").read_text(encoding="utf-8"))["address"])
        self._address_file.write_text(address + "\n", encoding="utf-8")
        return address

    def admin_key(self) -> str:
        """Empty before the first start."""
        return _text_of(self.admin_key_file)

    def has_pool_token(self) -> bool:
        return bool(_text_of(self.pool_token_file))

    def write_pool_token(self, token: str) -> None:
        descriptor = os.open(self.pool_token_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as target:
            target.write(token + "\n")


def _text_of(file: Path) -> str:
    """Empty where there is no such file yet."""
    try:
        return file.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return ""
