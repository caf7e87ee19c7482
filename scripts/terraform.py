"""Finds a static Terraform for the demo's image: on PATH, in the cache, as a release, or by `go install`.

Prints its path. The pinned version is the last one under the Mozilla Public License 2.0; it is only put into
a local image, never distributed. Any 1.x from 1.4 on will do: that is where `terraform_data` came.
"""

import hashlib
import io
import json
import os
import platform
import shutil
import subprocess
import zipfile
from http.client import HTTPException
from pathlib import Path

from scripts.opa import fetch
from scripts.progress import BIN, SetupError, Step, answering, run
from scripts.static import is_static

PINNED = "1.5.7"
OLDEST = (1, 4)
RELEASES = f"https://releases.hashicorp.com/terraform/{PINNED}"
SHA256 = {
    "x86_64": ("amd64", "c0ed7bc32ee52ae255af9982c8c88a7a4c610485cf1d55feeb037eab75fa082c"),
    "aarch64": ("arm64", "f4b4ad7c6b6088960a667e34495cae490fb072947a9ff266bf5929f5333565e4"),
}
CACHED = BIN / "terraform"


def ensure() -> Path:
    step = Step("Terraform")
    for candidate in (shutil.which("terraform"), CACHED):
        if candidate and (version := usable_version(Path(candidate))):
            step.done(f"{version} at {candidate}")
            return Path(candidate)
    CACHED.parent.mkdir(parents=True, exist_ok=True)
    try:
        download(step)
        how = "the official release"
    except (OSError, HTTPException, SetupError) as error:
        step.note(f"the official release cannot be had: {error}")
        go_install(step)
        how = "built by go install"
    if usable_version(CACHED) is None:
        raise SetupError(f"{CACHED} is not a static Terraform {PINNED}")
    step.done(f"{PINNED} at {CACHED}, {how}")
    return CACHED


def usable_version(terraform: Path) -> str | None:
    """The version of a Terraform that works inside an image without a C library, else None."""
    if not terraform.exists() or not is_static(terraform):
        return None
    env = os.environ | {"CHECKPOINT_DISABLE": "1"}
    command = [str(terraform), "version", "-json"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    if answer.returncode != 0:
        return None
    version: str = json.loads(answer.stdout)["terraform_version"]
    major, minor = map(int, version.split(".")[:2])
    return version if OLDEST <= (major, minor) < (2, 0) else None


def download(step: Step) -> None:
    if platform.machine() not in SHA256:
        raise SetupError(f"there is no pinned release for {platform.machine()}")
    architecture, expected = SHA256[platform.machine()]
    step.note(f"downloading release {PINNED}")
    archive = fetch(f"{RELEASES}/terraform_{PINNED}_linux_{architecture}.zip")
    if (actual := hashlib.sha256(archive).hexdigest()) != expected:
        raise SetupError(f"the downloaded release has SHA-256 {actual}, expected {expected}")
    part = CACHED.with_suffix(".part")
    part.write_bytes(zipfile.ZipFile(io.BytesIO(archive)).read("terraform"))
    part.chmod(0o755)
    part.replace(CACHED)


def go_install(step: Step) -> None:
    if shutil.which("go") is None:
        raise SetupError("Terraform is needed: put a static `terraform` on PATH, or install Go to build it")
    step.note("building it with `go install`, which takes some minutes, once")
    env = os.environ | {"GOBIN": str(CACHED.parent), "CGO_ENABLED": "0", "GOOS": "linux"}
    run(step, ["go", "install", "-ldflags=-s -w", f"github.com/hashicorp/terraform@v{PINNED}"], env=env)


if __name__ == "__main__":
    with answering():
        print(ensure())
