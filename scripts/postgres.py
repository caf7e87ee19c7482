"""Finds PostgreSQL's binaries, or as root on Debian installs them, and runs a private cluster of its own.

`python -m scripts.postgres COMMAND…` runs a command with INTERLOCK_DATABASE_URL set to a fresh cluster's database.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from scripts import debian
from scripts.progress import SetupError, Step, answering

# Where Debian keeps them, one folder per major version.
_DEBIAN: Final = Path("/usr/lib/postgresql")
_NO_SYSTEM_CLUSTER: Final = Path("/etc/postgresql-common/createcluster.d/interlock.conf")
_OLDEST: Final = 13
START_TIMEOUT_S: Final = 30.0
# Users that postgres may run as where set-up runs as root, which postgres refuses.
_USERS: Final = ("postgres", "nobody")


# Not by Popen's `user`: with it, Python forks in earnest, and in a process where gRPC is at work the child may crash.
_BECOME: Final = """\
import os, sys
user, group, *command = sys.argv[1:]
os.setgroups([])
os.setgid(int(group))
os.setuid(int(user))
os.execv(command[0], command)
"""


@dataclass(eq=False)
class Cluster:
    """A PostgreSQL of its own, on a unix socket that nobody else can reach. It can be killed and started again."""

    bin: Path
    folder: Path
    # False: it does not wait for the disk, so that it survives a kill, not a power cut. For tests.
    is_durable: bool = False
    settings: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def url(self, database: str = "postgres", driver: str = "psycopg") -> str:
        """For SQLAlchemy, and as INTERLOCK_DATABASE_URL."""
        return f"postgresql+{driver}://interlock@/{database}?host={self.folder}"

    def make(self) -> None:
        """Makes the empty cluster."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if (user := _user()) is not None:
            shutil.chown(self.folder, user.pw_uid, user.pw_gid)
        command = [self.bin / "initdb", "--pgdata", self.folder / "data", "--username", "interlock"]
        options = ["--auth", "trust", "--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync"]
        made = self._run([*map(str, command), *options])
        if made.returncode != 0:
            raise SetupError(f"initdb failed:\n{made.stdout}")

    def start(self) -> None:
        """Returns once it answers."""
        settings = ["listen_addresses=", f"unix_socket_directories={self.folder}", *self.settings]
        if not self.is_durable:
            settings += ["fsync=off", "full_page_writes=off"]
        command = [str(self.bin / "postgres"), "-D", str(self.folder / "data")]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                _as_its_user([*command, *(word for setting in settings for word in ("-c", setting))]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise SetupError(f"postgres does not start:\n{(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Ends it, whoever is connected."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(START_TIMEOUT_S)

    def kill(self) -> None:
        """As a crash does: its connections are cut, and what was committed is there after `start`."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        for child in _children(self.process.pid):
            os.kill(child, signal.SIGKILL)
        self.process.wait()

    def _answers(self) -> bool:
        return self._run([str(self.bin / "pg_isready"), "-q", "-h", str(self.folder)]).returncode == 0

    def _run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            _as_its_user(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            cwd="/",
        )


@contextmanager
def running(*, is_durable: bool = False, settings: tuple[str, ...] = ()) -> Iterator[Cluster]:
    """A cluster that is there until the end of this block."""
    binaries = ensure()
    # A short path: a unix socket's has 107 bytes at most.
    folder = Path(tempfile.mkdtemp(prefix="interlock-pg-"))
    cluster = Cluster(binaries, folder, is_durable, settings)
    try:
        cluster.make()
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder)


def ensure() -> Path:
    """The folder of PostgreSQL's binaries."""
    if (found := find()) is not None:
        return found
    step = Step("PostgreSQL")
    if not debian.can_install():
        raise SetupError(
            f"PostgreSQL {_OLDEST} or newer is needed, and `initdb` is neither on PATH nor in {_DEBIAN}. "
            "Install it. As root on Debian this would be done here."
        )
    _NO_SYSTEM_CLUSTER.parent.mkdir(parents=True, exist_ok=True)
    _NO_SYSTEM_CLUSTER.write_text("create_main_cluster = false\n")
    debian.install(step, "postgresql")
    if (found := find()) is None:
        raise SetupError(f"Debian's postgresql is installed, and there is no initdb in {_DEBIAN}")
    step.done(f"installed in {found}")
    return found


def find() -> Path | None:
    """The newest that is there."""
    versions = [folder for folder in _DEBIAN.glob("[0-9]*") if (folder / "bin" / "initdb").exists()]
    for folder in sorted(versions, key=lambda folder: float(folder.name), reverse=True):
        if float(folder.name) >= _OLDEST:
            return folder / "bin"
    on_path = shutil.which("initdb")
    return Path(on_path).resolve().parent if on_path else None


def _user() -> pwd.struct_passwd | None:
    """Whom postgres must run as; None: whoever runs this."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    for name in _USERS:
        if name in names:
            return names[name]
    raise SetupError("postgres does not run as root, and there is neither a user postgres nor nobody")


def _as_its_user(command: list[str]) -> list[str]:
    """The command, so that it runs as whom postgres must run as."""
    user = _user()
    if user is None:
        return command
    return [sys.executable, "-I", "-S", "-c", _BECOME, str(user.pw_uid), str(user.pw_gid), *command]


def _children(pid: int) -> list[int]:
    """Its backends have sessions of their own."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == pid:
            found.append(int(stat.parent.name))
    return found


def main(command: list[str]) -> int:
    with answering(), running(is_durable=True) as cluster:
        print(f"  PostgreSQL at {cluster.url()}", file=sys.stderr, flush=True)
        environment = os.environ | {"INTERLOCK_DATABASE_URL": cluster.url()}
        return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
