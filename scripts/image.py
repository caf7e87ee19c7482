"""Makes the small image that the demo and the tests run: busybox and Terraform, FROM scratch.

Prints its tag, which carries a hash of its content, so that it is built once. With INTERLOCK_DEMO_IMAGE set,
that image is pulled and used instead.
"""

import hashlib
import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import docker
from docker.errors import APIError, BuildError, ImageNotFound

from scripts import debian, engine, terraform
from scripts.progress import BIN, SetupError, Step, answering
from scripts.static import is_static

NAME = "interlock-demo"
ALIASES = (f"{NAME}:latest", "interlock-test:latest")
UID = 1983
HOME = "/home/interlock"
WORKSPACE = "/mnt/workspace/source"
DOCKERFILE = f"""\
FROM scratch
ADD root.tar /
ENV PATH=/bin:/usr/bin HOME={HOME} CHECKPOINT_DISABLE=1
USER {UID}:{UID}
WORKDIR {WORKSPACE}
CMD ["/bin/sh"]
"""


def ensure(engine_url: str) -> str:
    client = docker.DockerClient(base_url=engine_url)
    try:
        if wanted := os.environ.get("INTERLOCK_DEMO_IMAGE"):
            return pulled(client, wanted)
        return built(client, busybox(), terraform.ensure())
    finally:
        client.close()


def pulled(client: docker.DockerClient, tag: str) -> str:
    step = Step("Image")
    try:
        client.images.get(tag)
    except ImageNotFound:
        step.note(f"pulling {tag}")
        try:
            client.images.pull(tag)
        except APIError as error:
            raise SetupError(f"INTERLOCK_DEMO_IMAGE={tag} cannot be pulled: {error.explanation}") from error
    step.done(tag)
    return tag


def built(client: docker.DockerClient, busybox_path: Path, terraform_path: Path) -> str:
    step = Step("Image")
    tag = f"{NAME}:{content_hash(busybox_path, terraform_path)}"
    try:
        image = client.images.get(tag)
    except ImageNotFound:
        step.note("building it FROM scratch")
        try:
            image, _ = client.images.build(
                fileobj=context(busybox_path, terraform_path), custom_context=True, tag=tag, rm=True
            )
        except (APIError, BuildError) as error:
            raise SetupError(f"the image cannot be built: {error}") from error
    for alias in ALIASES:
        image.tag(alias)
    step.done(tag)
    return tag


def content_hash(*programs: Path) -> str:
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for program in programs:
        with program.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:12]


def busybox() -> Path:
    step = Step("busybox")
    found = shutil.which("busybox")
    path = Path(found) if found and is_static(Path(found)) else unpacked_busybox(step)
    step.done(str(path))
    return path


def unpacked_busybox(step: Step) -> Path:
    package = debian.unpack(step, "busybox-static")
    program = next(path for path in (package / "bin/busybox", package / "usr/bin/busybox") if path.exists())
    on_path = BIN / "busybox"
    if not on_path.exists():
        BIN.mkdir(exist_ok=True)
        on_path.symlink_to(program)
    return on_path


def context(busybox_path: Path, terraform_path: Path) -> io.BytesIO:
    """The build's context: the Dockerfile, and the whole file system as one archive."""
    out = io.BytesIO()
    root = filesystem(busybox_path, terraform_path)
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in (("Dockerfile", DOCKERFILE.encode()), ("root.tar", root)):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    out.seek(0)
    return out


def filesystem(busybox_path: Path, terraform_path: Path) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:

        def folder(path: str, *, mode: int = 0o755, owner: int = 0) -> None:
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.type, entry.mode, entry.uid, entry.gid = tarfile.DIRTYPE, mode, owner, owner
            tar.addfile(entry)

        def file(path: str, content: bytes, *, mode: int = 0o644) -> None:
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))

        for path in ("/bin", "/usr", "/usr/bin", "/etc", "/home", "/mnt"):
            folder(path)
        folder("/tmp", mode=0o1777)  # noqa: S108  # a path in the image
        for path in (HOME, str(Path(WORKSPACE).parent), WORKSPACE):
            folder(path, owner=UID)
        file("/etc/passwd", f"root:x:0:0:root:/:/bin/sh\ninterlock:x:{UID}:{UID}::{HOME}:/bin/sh\n".encode())
        file("/etc/group", f"root:x:0:\ninterlock:x:{UID}:\n".encode())
        file("/bin/busybox", busybox_path.read_bytes(), mode=0o755)
        file("/bin/terraform", terraform_path.read_bytes(), mode=0o755)
        for applet in applets(busybox_path):
            entry = tarfile.TarInfo(f"bin/{applet}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(entry)
    return out.getvalue()


def applets(busybox_path: Path) -> list[str]:
    listed = subprocess.run([busybox_path, "--list"], capture_output=True, text=True, check=True)
    return [name for name in listed.stdout.split() if name != "busybox"]


if __name__ == "__main__":
    with answering():
        print(ensure(engine.ensure()))
