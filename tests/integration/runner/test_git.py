"""Sources from real git repositories: exactly the commit, nothing of the repository run, no credential given away."""

import base64
import socket
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from runner.docker_engine import DockerEngine
from runner.errors import SourceRefused, SourceUnavailable
from runner.script import RunScript
from runner.secret import Secret
from runner.sources.archive import SourceLimits
from runner.sources.git import GitCredential, GitSource, from_git
from tests.integration.runner.containers import started
from tests.integration.runner.repositories import EVERY_PROTOCOL, Repository

WORD = "swordfish-token"


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Path]:
    """The runner's folder for temporary files, in which nothing may be left behind."""
    path = tmp_path / "work"
    path.mkdir()
    yield path
    assert list(path.iterdir()) == []


async def files_of(
    source: GitSource, work: Path, project_root: str = "", limits: SourceLimits | None = None
) -> dict[str, str]:
    """Files and links below the source by name, with their content or target."""
    made = await from_git(
        source, work_folder=work, project_root=project_root, limits=limits or SourceLimits()
    )
    with made as workspace, tarfile.open(fileobj=workspace.archive()) as tar:
        found = {}
        for member in tar:
            if not member.isdir():
                content = tar.extractfile(member) if member.isreg() else None
                name = member.name.removeprefix("mnt/workspace/source/")
                found[name] = content.read().decode() if content else member.linkname
        return found


async def test_the_files_are_those_of_the_commit_and_not_of_a_later_one(
    repository: Repository, work: Path
) -> None:
    first = repository.commit(main__tf="one", modules__a="a")
    repository.commit(main__tf="two")
    assert await files_of(repository.source(first), work) == {"main/tf": "one", "modules/a": "a"}


async def test_a_repository_that_gives_no_single_commits_is_fetched_whole(
    repository: Repository, work: Path
) -> None:
    first = repository.commit(main="one")
    repository.commit(main="two")
    repository.git("update-server-info")
    folder = str(repository.path)

    class Files(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=folder)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with http_server(Files) as address:
        source = GitSource(url=f"http://{address}/.git", commit=first, protocols=EVERY_PROTOCOL)
        assert await files_of(source, work) == {"main": "one"}


async def test_files_that_archives_would_leave_out_or_rewrite_come_as_they_are(
    repository: Repository, work: Path
) -> None:
    attributes = "secret.txt export-ignore\nversion export-subst\n"
    (repository.path / ".gitattributes").write_text(attributes)
    (repository.path / "secret.txt").write_text("kept")
    commit = repository.commit(version="$Format:%H$")
    files = await files_of(repository.source(commit), work)
    assert files == {".gitattributes": attributes, "secret.txt": "kept", "version": "$Format:%H$"}


async def test_filters_and_hooks_of_the_repository_do_not_run(
    repository: Repository, work: Path, tmp_path: Path
) -> None:
    proof = tmp_path / "proof"
    repository.git("config", "filter.evil.smudge", f"touch {proof}")
    hook = repository.path / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {proof}\n")
    hook.chmod(0o755)
    (repository.path / ".gitattributes").write_text("* filter=evil\n")
    assert (await files_of(repository.source(repository.commit(main="x")), work))["main"] == "x"
    assert not proof.exists()


async def test_this_machine_s_git_configuration_does_not_count(
    repository: Repository, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = repository.commit(main="x")
    (tmp_path / ".gitconfig").write_text(f'[url "file://{tmp_path}/elsewhere"]\n\tinsteadOf = file://\n')
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / ".gitconfig"))
    monkeypatch.setenv("GIT_DIR", str(tmp_path))
    assert await files_of(repository.source(commit), work) == {"main": "x"}


async def test_links_inside_are_kept_and_links_that_lead_out_are_refused(
    repository: Repository, work: Path
) -> None:
    (repository.path / "inside").symlink_to("main")
    commit = repository.commit(main="x")
    assert (await files_of(repository.source(commit), work))["inside"] == "main"
    for target in ("/etc/passwd", "../outside", ".git/../../outside"):
        (repository.path / "outside").unlink(missing_ok=True)
        (repository.path / "outside").symlink_to(target)
        with pytest.raises(SourceRefused, match="outside"):
            await files_of(repository.source(repository.commit()), work)


async def test_a_repository_that_is_too_large_is_refused(repository: Repository, work: Path) -> None:
    commit = repository.commit(main="x" * 100_000)
    with pytest.raises(SourceRefused, match="more than 1000 bytes"):
        await files_of(repository.source(commit), work, limits=SourceLimits(unpacked_bytes=1000))


async def test_the_project_root_has_to_be_in_the_commit(repository: Repository, work: Path) -> None:
    source = repository.source(repository.commit(stacks__prod__main="x"))
    assert await files_of(source, work, "stacks/prod") == {"stacks/prod/main": "x"}
    with pytest.raises(SourceRefused, match="stacks/test"):
        await files_of(source, work, "stacks/test")


@pytest.mark.parametrize(
    "url",
    [
        "ext::touch% {proof}", "ext::sh -c touch% {proof}", "--upload-pack=touch {proof}", "-u./payload", "{folder}",
        "file://{folder}\n", "https://-oProxyCommand=touch/x", "ssh://-oProxyCommand=touch${{IFS}}{proof}/x",
        "git@-oProxyCommand:x", "git@host:-x", "fd::17", "http::ftp://x", "https://host/\\x", "host:path", "", "x",
        "gopher://host/x", "git@host:ext::sh",
    ],
)  # fmt: skip
async def test_a_hostile_address_is_refused_before_git_sees_it(
    repository: Repository, work: Path, tmp_path: Path, url: str
) -> None:
    proof = tmp_path / "proof"
    commit = repository.commit(main="x")
    hostile = url.format(proof=proof, folder=repository.path)
    if hostile == "git@host:ext::sh":  # only ssh to a host, whatever its path says
        with pytest.raises(SourceUnavailable):
            await from_git(GitSource(url=hostile, commit=commit), work_folder=work)
    else:
        with pytest.raises(SourceRefused):
            await from_git(GitSource(url=hostile, commit=commit, protocols=EVERY_PROTOCOL), work_folder=work)
    assert not proof.exists()


async def test_local_and_plain_repositories_are_read_only_where_that_is_allowed(
    repository: Repository, work: Path
) -> None:
    commit = repository.commit(main="x")
    for url in (f"file://{repository.path}", "http://127.0.0.1/x"):
        with pytest.raises(SourceRefused, match="only by https, ssh"):
            await from_git(GitSource(url=url, commit=commit), work_folder=work)


@pytest.mark.parametrize("commit", ["main", "--output=x", "-x", "", "a" * 39, "A" * 40, "a" * 40 + "\n"])
async def test_a_commit_has_to_be_a_full_hash(repository: Repository, work: Path, commit: str) -> None:
    with pytest.raises(SourceRefused, match="full hash"):
        await from_git(repository.source(commit), work_folder=work)


async def test_a_commit_that_is_not_there_and_a_repository_that_is_not_there_give_git_s_words(
    repository: Repository, work: Path, tmp_path: Path
) -> None:
    repository.commit(main="x")
    with pytest.raises(SourceUnavailable, match="0000"):
        await from_git(repository.source("0" * 40), work_folder=work)
    missing = GitSource(url=f"file://{tmp_path}/nothing", commit="0" * 40, protocols=EVERY_PROTOCOL)
    with pytest.raises(SourceUnavailable, match=r"does not appear to be a git repository|not exist"):
        await from_git(missing, work_folder=work)


@contextmanager
def http_server(answer: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    listener = ThreadingHTTPServer(("127.0.0.1", 0), answer)
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"127.0.0.1:{listener.server_port}"
    finally:
        listener.shutdown()
        thread.join()
        listener.server_close()


async def test_a_password_goes_to_its_host_and_not_where_that_redirects(work: Path) -> None:
    seen: dict[str, set[str]] = {"first": set(), "second": set()}

    class Second(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen["second"].add(self.headers.get("Authorization", ""))
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="second"')
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with http_server(Second) as second:

        class First(Second):
            def do_GET(self) -> None:
                given = self.headers.get("Authorization", "")
                seen["first"].add(given)
                self.send_response(302 if given else 401)
                self.send_header("Location", f"http://{second}{self.path}")
                self.send_header("WWW-Authenticate", 'Basic realm="first"')
                self.end_headers()

        with http_server(First) as first:
            source = GitSource(
                url=f"http://{first}/repository.git",
                commit="0" * 40,
                credential=GitCredential(username="ada", password=Secret(WORD)),
                protocols=EVERY_PROTOCOL,
            )
            with pytest.raises(SourceUnavailable) as caught:
                await from_git(source, work_folder=work)
    assert "Basic " + base64.b64encode(f"ada:{WORD}".encode()).decode() in seen["first"]
    assert seen["second"] == {""}
    assert WORD not in str(caught.value) + repr(source)


async def test_a_fetch_that_hangs_is_given_up(work: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/x"
        source = GitSource(url=url, commit="0" * 40, protocols=EVERY_PROTOCOL)
        with pytest.raises(SourceUnavailable, match=r"within 0\.5 s"):
            await from_git(source, work_folder=work, timeout_s=0.5)


async def test_the_files_arrive_in_the_container_and_the_credential_does_not(
    docker_engine: DockerEngine, test_image: str, repository: Repository, work: Path
) -> None:
    commit = repository.commit(stacks__prod__main="hello", run="echo from the script")
    (repository.path / "run").chmod(0o755)
    commit = repository.commit()
    source = GitSource(
        url=f"file://{repository.path}",
        commit=commit,
        credential=GitCredential(password=Secret(WORD)),
        protocols=EVERY_PROTOCOL,
    )
    script = RunScript(
        command=f"cat main; ../../run; touch new; env; grep -r {WORD} /mnt /tmp /proc/*/environ 2>/dev/null; true",
        project_root="stacks/prod",
    )
    async with started(docker_engine, test_image) as running:
        with await from_git(source, work_folder=work, project_root="stacks/prod") as workspace:
            await docker_engine.put_archive(running.id, workspace.archive())
        text = script.render(end_line=running.end_line, nonce=running.nonce, gate_token=running.gate_token)
        await running.input.feed(text)
        await running.go()
        raw, container_exit = await running.rest()
    output = running.split(raw)[0]
    assert container_exit.exit_code == 0
    assert output.startswith(b"hellofrom the script\n")
    assert WORD.encode() not in output
