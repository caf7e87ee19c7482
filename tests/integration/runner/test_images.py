"""Images by their pull policy, pulled by the real engine from a registry of this test."""

import gzip
import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import docker
import pytest

from runner.docker_engine import DockerEngine
from runner.errors import ImageUnavailable
from runner.images import PullPolicy, ensure_image

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


@dataclass
class Registry:
    address: str
    requests: list[str] = field(default_factory=list)

    @property
    def image(self) -> str:
        return f"{self.address}/small:1"


def small_image() -> dict[str, tuple[bytes, str]]:
    """What a registry answers for an image of one empty file: body and content type by path."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("small"))
    packed = gzip.compress(layer.getvalue())
    root = {"type": "layers", "diff_ids": [_digest(layer.getvalue())]}
    config = json.dumps({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": root}).encode()
    described = {
        "config": _described("application/vnd.docker.container.image.v1+json", config),
        "layers": [_described("application/vnd.docker.image.rootfs.diff.tar.gzip", packed)],
    }
    manifest = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST} | described).encode()
    return {
        "/v2/": (b"{}", "application/json"),
        "/v2/small/manifests/1": (manifest, MANIFEST),
        f"/v2/small/manifests/{_digest(manifest)}": (manifest, MANIFEST),
        f"/v2/small/blobs/{_digest(config)}": (config, "application/octet-stream"),
        f"/v2/small/blobs/{_digest(packed)}": (packed, "application/octet-stream"),
    }


@pytest.fixture
def registry(docker_client: docker.DockerClient) -> Iterator[Registry]:
    """The registry protocol as far as one small image needs it; engines allow loopback without TLS."""
    answers = small_image()
    made = Registry("")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.requests.append(self.path)
            if self.path not in answers:
                self.send_error(404)
                return
            body, kind = answers[self.path]
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Docker-Content-Digest", _digest(body))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815  # the server's name for it

        def log_message(self, *_: object) -> None:
            """Quiet."""

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.address = f"127.0.0.1:{listener.server_port}"
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield made
    listener.shutdown()
    thread.join()
    listener.server_close()
    for image in docker_client.images.list():
        for tag in image.tags:
            if tag.startswith(made.address):
                docker_client.images.remove(tag)


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _described(kind: str, blob: bytes) -> dict[str, object]:
    return {"mediaType": kind, "size": len(blob), "digest": _digest(blob)}


async def test_an_image_that_is_missing_is_pulled_and_the_output_says_so(
    docker_engine: DockerEngine, registry: Registry
) -> None:
    lines: list[str] = []
    await ensure_image(docker_engine, registry.image, PullPolicy.IF_NOT_PRESENT, lines.append)
    assert await docker_engine.image_id(registry.image)
    assert lines[0] == f"Pulling image {registry.image}"
    assert lines[-1] == f"Status: Downloaded newer image for {registry.image}"


async def test_an_image_that_is_there_is_pulled_again_only_by_always(
    docker_engine: DockerEngine, registry: Registry
) -> None:
    lines: list[str] = []
    await ensure_image(docker_engine, registry.image, PullPolicy.ALWAYS, lines.append)
    requests = len(registry.requests)
    await ensure_image(docker_engine, registry.image, PullPolicy.IF_NOT_PRESENT, lines.append)
    await ensure_image(docker_engine, registry.image, PullPolicy.NEVER, lines.append)
    assert len(registry.requests) == requests
    await ensure_image(docker_engine, registry.image, PullPolicy.ALWAYS, lines.append)
    assert len(registry.requests) > requests
    assert lines[-1] == f"Status: Image is up to date for {registry.image}"


async def test_an_image_that_the_registry_does_not_have_is_named(
    docker_engine: DockerEngine, registry: Registry
) -> None:
    image = f"{registry.address}/nothing:1"
    with pytest.raises(ImageUnavailable, match="nothing"):
        await ensure_image(docker_engine, image, PullPolicy.IF_NOT_PRESENT, print)


async def test_a_registry_that_is_not_there_is_named(docker_engine: DockerEngine) -> None:
    with pytest.raises(ImageUnavailable, match=r"127\.0\.0\.1:1/x:1"):
        await ensure_image(docker_engine, "127.0.0.1:1/x:1", PullPolicy.ALWAYS, print)


async def test_never_pulling_says_what_to_do(docker_engine: DockerEngine) -> None:
    with pytest.raises(ImageUnavailable, match="change the policy"):
        await ensure_image(docker_engine, "interlock/no-such-image:1", PullPolicy.NEVER, print)
