"""Asks a git repository which commit a ref stands for, with git itself and none of this machine's configuration."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.parse import quote

import structlog

from control_plane.stacks import git_url
from control_plane.stacks.git_url import GitRules
from interlock.v1 import stack_pb2

# Of `git ls-remote` for one ref, and of git's complaints.
_MAX_ANSWER_BYTES: Final = 1024 * 1024
_MAX_MESSAGE_CHARS: Final = 2000
# Each is a process with a connection of its own.
_AT_ONCE: Final = 8
# How a server behind a proxy or with an authority of its own reaches anything.
_INHERITED: Final = (
    "PATH",
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "GIT_SSL_CAINFO",
    "GIT_SSL_CAPATH",
)
# Git runs it with the operation as its last argument; the values never stand on a command line.
_CREDENTIAL_HELPER: Final = (
    '!f() { test "$1" = get && printf "username=%s\\npassword=%s\\n" '
    '"$INTERLOCK_GIT_USERNAME" "$INTERLOCK_GIT_PASSWORD"; }; f'
)
# For hosts that take a token alone, any name will do.
_USER_OF_TOKENS: Final = "x-access-token"

log = structlog.get_logger(__name__)


class GitFailed(Exception):
    """Git did not answer with a commit; the message is git's own where it said something, without secrets."""


class GitRemotes:
    """Repositories elsewhere, within what `rules` allow."""

    def __init__(self, rules: GitRules, *, timeout_s: float = 10.0) -> None:
        self._rules = rules
        self._timeout_s = timeout_s
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def resolve(self, url: str, ref: str, credential: stack_pb2.GitCredential) -> str:
        """The full hash of the commit that `ref` is now. A branch wins over a tag; an annotated tag is peeled.

        A full hash is given back as it is: whether the repository has it is seen when it is fetched.

        Raises:
            GitFailed: the address is not allowed, git failed or took too long, or there is no such ref.
        """
        if git_url.is_commit(ref):
            return ref
        problem = git_url.problem_with_url(url, self._rules) or git_url.problem_with_ref(ref)
        if problem is not None:
            raise GitFailed(f"the repository's address or ref {problem}")
        async with self._turns:
            with _environment(url, credential, self._rules) as (folder, environment):
                answer = await self._ls_remote(url, ref, folder, environment, credential)
        commit = _commit_in(answer, ref)
        if commit is None:
            raise GitFailed(f"it has no branch or tag {ref!r}; a commit is named by its full hash")
        return commit

    async def _ls_remote(
        self,
        url: str,
        ref: str,
        folder: Path,
        environment: Mapping[str, str],
        credential: stack_pb2.GitCredential,
    ) -> str:
        try:
            process = await asyncio.create_subprocess_exec(
                "git",
                "ls-remote",
                "--quiet",
                "--",
                url,
                *_patterns(ref),
                cwd=folder,
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise GitFailed("git is not installed beside the control plane") from error
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            async with asyncio.timeout(self._timeout_s):
                answer, complaint = await asyncio.gather(_read(process.stdout), _read(process.stderr))
                code = await process.wait()
        except TimeoutError as error:
            raise GitFailed(f"no answer within {self._timeout_s:g} s") from error
        finally:
            await _end(process)
        if code != 0:
            message = _without_secrets(complaint, credential) or f"git ended with code {code}"
            log.info("git.ls_remote_failed", code=code)
            raise GitFailed(message)
        return answer


@contextmanager
def _environment(
    url: str, credential: stack_pb2.GitCredential, rules: GitRules
) -> Iterator[tuple[Path, dict[str, str]]]:
    """An empty folder and the variables for one call of git; both the key and the folder are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="interlock-git-") as name:
        folder = Path(name)
        environment = {name: os.environ[name] for name in _INHERITED if name in os.environ} | {
            "HOME": str(folder),
            "LC_ALL": "C",
            "GIT_CEILING_DIRECTORIES": str(folder.parent),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ALLOW_PROTOCOL": ":".join(rules.protocols),
            "GIT_SSH_COMMAND": _ssh_command(folder, credential),
        }
        if credential.password and not git_url.is_ssh(url):
            environment |= {
                "GIT_CONFIG_COUNT": "1",
                # For this host only: a redirect to another one must not be shown it.
                "GIT_CONFIG_KEY_0": "credential.{0.scheme}://{0.host}.helper".format(git_url.origin(url)),
                "GIT_CONFIG_VALUE_0": _CREDENTIAL_HELPER,
                "INTERLOCK_GIT_USERNAME": credential.username or _USER_OF_TOKENS,
                "INTERLOCK_GIT_PASSWORD": credential.password,
            }
        yield folder, environment


def _ssh_command(folder: Path, credential: stack_pb2.GitCredential) -> str:
    """ssh with this key and these hosts only: no agent, no configuration, no question."""
    key, hosts = folder / "key", folder / "known_hosts"
    for path, text in ((key, credential.ssh_private_key), (hosts, credential.ssh_known_hosts)):
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
    arguments = [f"-o{name}={value}" for name, value in options.items()]
    return shlex.join(["ssh", "-F", os.devnull, *arguments])


def _patterns(ref: str) -> list[str]:
    """What git is asked for. It matches ends of names, so that `_commit_in` looks again."""
    return [f"refs/heads/{ref}", f"refs/tags/{ref}", f"refs/tags/{ref}^{{}}", ref, f"{ref}^{{}}"]


def _commit_in(answer: str, ref: str) -> str | None:
    hashes: dict[str, str] = {}
    for line in answer.splitlines():
        commit, _, name = line.partition("\t")
        if git_url.is_commit(commit):
            hashes[name] = commit
    # `NAME^{}` is what an annotated tag points at.
    order = (f"refs/heads/{ref}", f"refs/tags/{ref}^{{}}", f"refs/tags/{ref}", f"{ref}^{{}}", ref)
    return next((hashes[name] for name in order if name in hashes), None)


async def _read(stream: asyncio.StreamReader) -> str:
    """All of it, or as much as a sane answer has; the rest would only fill memory."""
    content = bytearray()
    while len(content) < _MAX_ANSWER_BYTES and (piece := await stream.read(65536)):
        content += piece
    while await stream.read(65536):
        pass
    return content.decode(errors="replace")


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kills git and the helpers it started, if they are still there."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def _without_secrets(text: str, credential: stack_pb2.GitCredential) -> str:
    secret = credential.password
    for shown in (secret, quote(secret, safe="")) if secret else ():
        text = text.replace(shown, "***")
    return text.strip()[-_MAX_MESSAGE_CHARS:]
