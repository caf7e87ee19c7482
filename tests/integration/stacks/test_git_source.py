"""Refs of real repositories, read by the real git over file, http and ssh."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import http.server
import os
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from control_plane.stacks.git_source import GitFailed, GitRemotes
from control_plane.stacks.git_url import GitRules
from interlock.v1.stack_pb2 import GitCredential
from tests.integration.stacks.repository import Repository

NONE = GitCredential()
TOKEN = "s3cr3t/token"
ANYTHING = GitRules(allow_http=True, allow_file=True)


@pytest.fixture
def remotes() -> GitRemotes:
    return GitRemotes(ANYTHING, timeout_s=20)


async def test_a_branch_is_the_commit_that_it_is_now(repository: Repository, remotes: GitRemotes) -> None:
    first = repository.git("rev-parse", "HEAD")
    assert await remotes.resolve(repository.url, "main", NONE) == first
    second = repository.commit()
    assert await remotes.resolve(repository.url, "main", NONE) == second != first


async def test_an_annotated_tag_is_the_commit_that_it_points_at(
    repository: Repository, remotes: GitRemotes
) -> None:
    commit = repository.git("rev-parse", "HEAD")
    repository.git("tag", "-a", "v1", "-m", "one")
    repository.git("tag", "v1-light")
    assert repository.git("rev-parse", "v1") != commit
    for ref in ("v1", "v1-light", "refs/tags/v1"):
        assert await remotes.resolve(repository.url, ref, NONE) == commit


async def test_a_branch_wins_over_a_tag_of_its_name(repository: Repository, remotes: GitRemotes) -> None:
    repository.git("tag", "main")
    newer = repository.commit()
    assert await remotes.resolve(repository.url, "main", NONE) == newer


async def test_a_ref_is_not_the_end_of_another_ones_name(repository: Repository, remotes: GitRemotes) -> None:
    repository.git("branch", "feature/prod")
    repository.git("branch", "refs/heads/prod")
    with pytest.raises(GitFailed, match="no branch or tag 'prod'"):
        await remotes.resolve(repository.url, "prod", NONE)


async def test_a_full_hash_needs_no_repository(remotes: GitRemotes) -> None:
    for commit in ("0123456789abcdef0123456789abcdef01234567", "ab" * 32):
        assert await remotes.resolve("https://git.invalid/x", commit, NONE) == commit


async def test_an_unknown_ref_is_said_to_be_unknown(repository: Repository, remotes: GitRemotes) -> None:
    for ref in ("nothing", repository.git("rev-parse", "HEAD")[:12]):
        with pytest.raises(GitFailed, match="a commit is named by its full hash"):
            await remotes.resolve(repository.url, ref, NONE)


async def test_a_repository_that_is_not_there_gives_gits_own_words(
    tmp_path: Path, remotes: GitRemotes
) -> None:
    with pytest.raises(GitFailed, match=r"does not appear to be a git repository|not exist"):
        await remotes.resolve(f"file://{tmp_path}/nothing", "main", NONE)


async def test_what_is_not_allowed_is_not_read(repository: Repository, tmp_path: Path) -> None:
    strict = GitRemotes(GitRules())
    proof = tmp_path / "proof"
    for url in (repository.url, f"ext::touch% {proof}", f"--upload-pack=touch {proof}", str(repository.path)):
        with pytest.raises(GitFailed, match="address or ref"):
            await strict.resolve(url, "main", NONE)
    assert not proof.exists()


async def test_this_machines_configuration_does_not_count(
    repository: Repository, remotes: GitRemotes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = repository.git("rev-parse", "HEAD")
    (tmp_path / ".gitconfig").write_text(
        f'[url "file://{tmp_path}/elsewhere"]\n\tinsteadOf = {repository.url}\n'
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / ".gitconfig"))
    monkeypatch.setenv("GIT_DIR", str(tmp_path))
    assert await remotes.resolve(repository.url, "main", NONE) == head


@dataclass
class GitServer:
    """git http-backend behind basic authentication."""

    url: str = ""
    seen: list[str] = field(default_factory=list)


@pytest.fixture
def git_server(repository: Repository) -> Iterator[GitServer]:
    server = GitServer()
    expected = base64.b64encode(f"ada:{TOKEN}".encode()).decode()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            given = self.headers.get("Authorization", "")
            server.seen.append(given)
            if given != f"Basic {expected}":
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="git"')
                self.send_header("Content-Type", "text/plain")
                self.end_headers()
                # A careless server repeats what it was given, and git shows it.
                self.wfile.write(b"not for " + base64.b64decode(given.removeprefix("Basic ")))
                return
            self._answer(b"")

        def do_POST(self) -> None:
            self._answer(self.rfile.read(int(self.headers["Content-Length"])))

        def _answer(self, body: bytes) -> None:
            path, _, query = self.path.partition("?")
            environment = os.environ | {
                "GIT_PROJECT_ROOT": str(repository.path.parent), "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": path,
                "QUERY_STRING": query, "REQUEST_METHOD": self.command, "CONTENT_LENGTH": str(len(body)),
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "HTTP_GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            }  # fmt: skip
            done = subprocess.run(
                ["git", "http-backend"], input=body, env=environment, capture_output=True, check=True
            )
            head, _, content = done.stdout.partition(b"\r\n\r\n")
            self.send_response(200)
            for line in head.decode().splitlines():
                self.send_header(*line.split(": ", 1))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    listener = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{listener.server_port}/repository/.git"
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server
    listener.shutdown()
    thread.join()
    listener.server_close()


async def test_a_password_opens_a_repository_over_http(
    repository: Repository, git_server: GitServer, remotes: GitRemotes
) -> None:
    credential = GitCredential(username="ada", password=TOKEN)
    commit = await remotes.resolve(git_server.url, "main", credential)
    assert commit == repository.git("rev-parse", "HEAD")


async def test_a_wrong_password_is_not_in_the_error(git_server: GitServer, remotes: GitRemotes) -> None:
    with pytest.raises(GitFailed, match="Authentication failed") as caught:
        await remotes.resolve(git_server.url, "main", GitCredential(username="ada", password="wr0ng-one"))
    assert "not for ada:***" in str(caught.value)


async def test_no_password_fails_at_once_and_asks_nobody(git_server: GitServer, remotes: GitRemotes) -> None:
    with pytest.raises(GitFailed, match="terminal prompts disabled"):
        await remotes.resolve(git_server.url, "main", NONE)
    assert set(git_server.seen) == {""}


RECORDING_GIT = """#!/bin/sh
printf '%s\\n' "$0" "$@" >> {record}
exec {git} "$@"
"""


async def test_a_password_stands_on_no_command_line(
    git_server: GitServer, remotes: GitRemotes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = tmp_path / "arguments"
    programs = tmp_path / "bin"
    _program(programs / "git", RECORDING_GIT.format(record=record, git=_which("git")))
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")

    await remotes.resolve(git_server.url, "main", GitCredential(username="ada", password=TOKEN))

    arguments = record.read_text()
    assert git_server.url in arguments
    assert TOKEN not in arguments


# Stands in for the program that reaches another machine; git, key and hosts are real.
RECORDING_SSH = """#!/bin/sh
for argument in "$@"; do
  printf '%s\\n' "$argument" >> {record}/arguments
  case "$argument" in
    -oIdentityFile=*) stat -c %a "${{argument#*=}}" > {record}/mode; cat "${{argument#*=}}" > {record}/key ;;
    -oUserKnownHostsFile=*) cat "${{argument#*=}}" > {record}/hosts ;;
  esac
  last="$argument"
done
eval "exec $last"
"""


async def test_ssh_gets_the_key_in_a_file_of_its_own_that_is_gone_afterwards(
    repository: Repository, remotes: GitRemotes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = tmp_path / "record"
    record.mkdir()
    _program(tmp_path / "bin" / "ssh", RECORDING_SSH.format(record=record))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    credential = GitCredential(ssh_private_key="PRIVATE KEY", ssh_known_hosts="git.example ssh-ed25519 AAAA")

    commit = await remotes.resolve(f"git@git.example:{repository.path}", "main", credential)

    assert commit == repository.git("rev-parse", "HEAD")
    assert (record / "mode").read_text() == "600\n"
    assert (record / "key").read_text() == "PRIVATE KEY\n"
    assert (record / "hosts").read_text() == "git.example ssh-ed25519 AAAA\n"
    arguments = (record / "arguments").read_text().splitlines()
    assert {"-oStrictHostKeyChecking=yes", "-oBatchMode=yes", "-oIdentityAgent=none"} <= set(arguments)
    assert not any("PRIVATE" in argument for argument in arguments)
    assert list((tmp_path / "temporary").iterdir()) == []


async def test_a_server_that_does_not_answer_is_given_up_and_git_with_it() -> None:
    connected = asyncio.Event()
    gone = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()
        with contextlib.suppress(ConnectionError):
            while await reader.read(1024):
                pass
        gone.set()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(GitFailed, match="no answer within 1 s"):
            await GitRemotes(ANYTHING, timeout_s=1).resolve(f"http://127.0.0.1:{port}/x", "main", NONE)
        assert connected.is_set()
        # The helper process that held the connection is dead too.
        await asyncio.wait_for(gone.wait(), 10)


def _program(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def _which(name: str) -> str:
    return subprocess.run(
        ["/bin/sh", "-c", f"command -v {name}"], check=True, capture_output=True, text=True
    ).stdout.strip()
