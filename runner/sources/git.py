"""A source in a git repository: one commit, fetched by git itself and handed over as a tar, never checked out.

Nothing of the repository runs or is believed: no hooks, no filters, no configuration but ours, no submodules, and
of transports only those that were allowed. The commit's files go through the same checks as an uploaded archive.
Credentials stay in the environment of the git process; none reaches the container.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit

import structlog

from runner.errors import SourceRefused, SourceUnavailable
from runner.secret import Secret
from runner.sources.archive import SourceLimits, add_tar
from runner.sources.workspace import Workspace
from runner.threads import in_own_thread

log = structlog.get_logger(__name__)

FOLDER_PREFIX: Final = "git-"
"""Of the folders that hold a repository, and perhaps a key, while it is fetched."""

DEFAULT_PROTOCOLS: Final = frozenset({"https", "ssh"})
_COMMIT: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_ADDRESS: Final = re.compile(
    r"(?P<protocol>[a-z]+)://[^-].*|[A-Za-z0-9._][^@:/]*@[A-Za-z0-9._][^@:/]*:[^-].*"
)
_NOT_PRINTABLE: Final = re.compile(r"[\x00-\x20\x7f\\]")
_MAX_MESSAGE_CHARS: Final = 2000
# How a machine behind a proxy, or with an authority of its own, reaches anything.
_INHERITED: Final = frozenset(
    {"PATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO", "GIT_SSL_CAPATH"}
    | {
        name
        for proxy in ("https", "http", "all", "no")
        for name in (f"{proxy}_proxy", f"{proxy}_proxy".upper())
    }
)
# Git runs it with the operation as its last argument; the values never stand on a command line.
_CREDENTIAL_HELPER: Final = (
    '!f() { test "$1" = get && printf "username=%s\\npassword=%s\\n" '
    '"$INTERLOCK_GIT_USERNAME" "$INTERLOCK_GIT_PASSWORD"; }; f'
)
# For hosts that take a token alone, any name will do.
_USER_OF_TOKENS: Final = "x-access-token"
# A repository may say in .gitattributes that files are left out of archives or rewritten; a checkout would not.
_ATTRIBUTES: Final = "* -export-ignore -export-subst\n"
# What servers say that give no single commits, or no shallow ones; all of the repository can still be fetched.
_NO_SINGLE_COMMIT: Final = ("unadvertised object", "not our ref", "dumb http", "shallow")
_NO_SECRET: Final = Secret("")


@dataclass(frozen=True, kw_only=True)
class GitCredential:
    """For https a password or token; for ssh a private key and the host's lines of known_hosts."""

    username: str = ""
    password: Secret = _NO_SECRET
    ssh_private_key: Secret = _NO_SECRET
    ssh_known_hosts: str = ""


@dataclass(frozen=True, kw_only=True)
class GitSource:
    url: str
    commit: str
    """Full hash."""
    credential: GitCredential = GitCredential()
    protocols: frozenset[str] = DEFAULT_PROTOCOLS
    """As in GIT_ALLOW_PROTOCOL. `file` would show the runner's own disk."""


async def from_git(
    source: GitSource,
    *,
    work_folder: Path,
    project_root: str = "",
    limits: SourceLimits = SourceLimits(),  # noqa: B008  # frozen
    timeout_s: float = 600,
) -> Workspace:
    """Fetches the commit and makes the workspace of its files. Raises `SourceRefused` and `SourceUnavailable`."""
    _check(source)
    with tempfile.TemporaryDirectory(dir=work_folder, prefix=FOLDER_PREFIX) as name:
        repository = _Repository(Path(name), source)
        try:
            async with asyncio.timeout(timeout_s):
                await repository.fetch()
        except TimeoutError as error:
            raise SourceUnavailable(f"git did not fetch {source.url} within {timeout_s:g} s") from error
        return await repository.archive(work_folder, project_root, limits)


def _check(source: GitSource) -> None:
    """Nothing that git would take for an option, a helper program or another repository gets through."""
    address = _ADDRESS.fullmatch(source.url)
    if address is None or _NOT_PRINTABLE.search(source.url):
        raise SourceRefused(f"{source.url!r} is no address of a git repository")
    protocol = address["protocol"] or "ssh"
    if protocol not in source.protocols:
        allowed = ", ".join(sorted(source.protocols))
        raise SourceRefused(f"this runner does not read git repositories by {protocol!r}, only by {allowed}")
    if not _COMMIT.fullmatch(source.commit):
        raise SourceRefused(f"{source.commit!r} is no commit's full hash")


class _Repository:
    """A bare one, in a folder that is removed afterwards."""

    def __init__(self, folder: Path, source: GitSource) -> None:
        self._folder = folder
        self._source = source
        self._environment = _environment(folder, source)

    async def fetch(self) -> None:
        source = self._source
        object_format = "sha256" if len(source.commit) == 64 else "sha1"
        await self._git("init", "--quiet", "--bare", "--template=", f"--object-format={object_format}", ".")
        info = self._folder / "info"
        info.mkdir(exist_ok=True)
        (info / "attributes").write_text(_ATTRIBUTES)
        try:
            await self._git("fetch", "--quiet", "--no-tags", "--depth=1", "--", source.url, source.commit)
        except SourceUnavailable as error:
            if not any(words in error.message for words in _NO_SINGLE_COMMIT):
                raise
            log.info("source.fetched_whole", url=source.url, reason=error.message)
            await self._git("fetch", "--quiet", "--no-tags", "--", source.url, "+refs/*:refs/remote/*")
        await self._git("cat-file", "-e", f"{source.commit}^{{commit}}")

    async def archive(self, work_folder: Path, project_root: str, limits: SourceLimits) -> Workspace:
        workspace = Workspace.on_disk(work_folder)
        process = subprocess.Popen(  # noqa: ASYNC220  # a fork; what blocks is in the thread
            ["git", "archive", "--format=tar", self._source.commit],
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        tar = process.stdout
        assert tar is not None
        try:
            await in_own_thread("source-unpack", lambda: add_tar(tar, workspace, project_root, limits))
        except BaseException:
            workspace.close()
            raise
        finally:
            process.kill()
            process.wait()
            tar.close()
        return workspace

    async def _git(self, *arguments: str) -> None:
        try:
            process = await asyncio.create_subprocess_exec(
                "git",
                *arguments,
                cwd=self._folder,
                env=self._environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise SourceUnavailable("git is not installed beside the runner") from error
        try:
            _, complaint = await process.communicate()
        finally:
            if process.returncode is None:
                # With the helpers that it started.
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        if process.returncode:
            raise SourceUnavailable(
                f"git could not fetch {self._source.commit} of {self._source.url}: "
                f"{_without_secrets(complaint.decode(errors='replace'), self._source.credential)}"
            )


def _environment(folder: Path, source: GitSource) -> dict[str, str]:
    credential = source.credential
    settings = {"core.hooksPath": os.devnull, "gc.auto": "0", "protocol.version": "2"}
    variables = {name: os.environ[name] for name in _INHERITED if name in os.environ} | {
        "HOME": str(folder),
        "LC_ALL": "C",
        "GIT_CEILING_DIRECTORIES": str(folder.parent),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ALLOW_PROTOCOL": ":".join(sorted(source.protocols)),
        "GIT_SSH_COMMAND": _ssh_command(folder, credential),
    }
    if password := credential.password.reveal():
        # Of this host only: a redirect to another one must not be shown it.
        address = urlsplit(source.url)
        settings[f"credential.{address.scheme}://{address.netloc}.helper"] = _CREDENTIAL_HELPER
        variables["INTERLOCK_GIT_USERNAME"] = credential.username or _USER_OF_TOKENS
        variables["INTERLOCK_GIT_PASSWORD"] = password
    return variables | _as_variables(settings)


def _as_variables(settings: Mapping[str, str]) -> dict[str, str]:
    """Git's settings by its environment: no file, no command line."""
    variables = {"GIT_CONFIG_COUNT": str(len(settings))}
    for number, (name, value) in enumerate(settings.items()):
        variables |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
    return variables


def _ssh_command(folder: Path, credential: GitCredential) -> str:
    """ssh with this key and these hosts only: no agent, no configuration, no question."""
    key, hosts = folder / "ssh_key", folder / "ssh_known_hosts"
    for path, text in ((key, credential.ssh_private_key.reveal()), (hosts, credential.ssh_known_hosts)):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            # OpenSSH refuses a key whose last line does not end.
            file.write(text.replace("\r\n", "\n").rstrip("\n") + "\n")
    options = {
        "IdentityFile": key,
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "BatchMode": "yes",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": hosts,
        "GlobalKnownHostsFile": os.devnull,
    }
    return shlex.join(["ssh", "-F", os.devnull, *(f"-o{name}={value}" for name, value in options.items())])


def _without_secrets(text: str, credential: GitCredential) -> str:
    if password := credential.password.reveal():
        text = text.replace(password, "***").replace(quote(password, safe=""), "***")
    return text.strip()[-_MAX_MESSAGE_CHARS:]
