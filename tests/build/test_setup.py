"""The set-up scripts: they take what is there, refuse what was tampered with, and undo only their own."""

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import docker
import pytest

from scripts import engine, image, opa, static
from scripts.progress import SetupError, Step


@contextmanager
def release(folder: Path, content: bytes, published: str) -> Iterator[str]:
    """A release site with one binary and the sum that is published for it."""
    for asset in opa.ASSETS.values():
        (folder / asset).write_bytes(content)
        (folder / f"{asset}.sha256").write_text(f"{published}  {asset}\n")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_downloaded_opa_is_kept_when_its_sum_is_the_published_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opa, "CACHED", tmp_path / "bin-opa")
    with release(tmp_path, b"program", sha256(b"program").hexdigest()) as url:
        monkeypatch.setattr(opa, "RELEASES", url)
        opa.download(Step("Open Policy Agent"))
    assert (tmp_path / "bin-opa").read_bytes() == b"program"
    assert (tmp_path / "bin-opa").stat().st_mode & 0o111


def test_downloaded_opa_is_thrown_away_when_its_sum_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opa, "CACHED", tmp_path / "bin-opa")
    with release(tmp_path, b"tampered", sha256(b"program").hexdigest()) as url:
        monkeypatch.setattr(opa, "RELEASES", url)
        with pytest.raises(SetupError, match="SHA-256"):
            opa.download(Step("Open Policy Agent"))
    assert not (tmp_path / "bin-opa").exists()


@pytest.mark.parametrize(
    ("version", "compatible"),
    [((1, 22, 2), True), ((1, 30, 0), True), ((1, 21, 9), False), ((0, 70, 0), False), ((2, 0, 0), False)],
)
def test_opa_of_the_pinned_minor_version_or_later_will_do(
    *, version: tuple[int, ...], compatible: bool
) -> None:
    assert opa.is_compatible(version) is compatible


def test_opa_that_set_up_finds_is_a_real_one(opa_path: Path) -> None:
    version = opa.version_of(opa_path)
    assert version is not None
    assert opa.is_compatible(version)


def test_docker_host_is_the_only_engine_tried_when_it_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    assert [address.url for address in engine.addresses()] == ["tcp://127.0.0.1:1"]


def test_current_docker_context_comes_before_the_usual_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"currentContext": "lab"}))
    meta = tmp_path / "contexts" / "meta" / sha256(b"lab").hexdigest()
    meta.mkdir(parents=True)
    (meta / "meta.json").write_text(json.dumps({"Endpoints": {"docker": {"Host": "ssh://lab"}}}))

    tried = [address.url for address in engine.addresses()]

    assert tried[:2] == ["ssh://lab", engine.USUAL_SOCKET]


def test_missing_engine_is_told_with_what_was_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(SetupError, match=r"unix:///nowhere/docker.sock \(DOCKER_HOST\)"):
        engine.ensure()


def test_engine_that_was_there_before_is_left_running(
    engine_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "PID_FILE", tmp_path / "dockerd.pid")
    monkeypatch.setenv("DOCKER_HOST", engine_url)
    with engine.running() as url:
        assert url == engine_url
    assert engine.version_at(engine_url)


def test_other_program_with_the_old_pid_is_not_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    monkeypatch.setattr(engine, "PID_FILE", tmp_path / "dockerd.pid")
    engine.PID_FILE.write_text(str(other.pid))

    engine.stop()

    assert other.poll() is None
    other.communicate()


def test_static_program_is_told_from_a_dynamic_one(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    assert static.is_static(Path("/bin/ls").resolve()) is False
    assert static.is_static(script) is False
    assert static.is_static(image.busybox()) is True


def test_image_runs_terraform_as_its_user_in_the_workspace(
    docker_client: docker.DockerClient, test_image: str
) -> None:
    script = 'id -u; pwd; touch here "$HOME/there" /tmp/everywhere && terraform version | head -n 1'
    output = docker_client.containers.run(test_image, ["sh", "-c", script], remove=True, network_mode="none")
    lines = output.decode().splitlines()
    assert lines[:2] == ["1983", "/mnt/workspace/source"]
    assert lines[2].startswith("Terraform v1.")
