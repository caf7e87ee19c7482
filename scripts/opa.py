"""Finds Open Policy Agent: on PATH, in the cache, as the official release, or built by `go install`.

Prints its path. Any 1.x from the pinned minor version on will do.
"""

import functools
import hashlib
import os
import platform
import re
import shutil
import subprocess
import urllib.request
from http.client import HTTPException
from pathlib import Path

from scripts.progress import BIN, SetupError, Step, answering, run

VERSION = (1, 22, 2)
PINNED = ".".join(map(str, VERSION))
RELEASES = f"https://github.com/open-policy-agent/opa/releases/download/v{PINNED}"
ASSETS = {
    ("Linux", "x86_64"): "opa_linux_amd64_static",
    ("Linux", "aarch64"): "opa_linux_arm64_static",
    ("Darwin", "arm64"): "opa_darwin_arm64_static",
}
CACHED = BIN / "opa"
CONNECT_TIMEOUT_S = 10


@functools.cache
def ensure() -> Path:
    step = Step("Open Policy Agent")
    for candidate in (shutil.which("opa"), CACHED):
        if candidate and (version := version_of(Path(candidate))) and is_compatible(version):
            step.done(f"{'.'.join(map(str, version))} at {candidate}")
            return Path(candidate)
    CACHED.parent.mkdir(parents=True, exist_ok=True)
    try:
        download(step)
        how = "the official release"
    except (OSError, HTTPException, SetupError) as error:
        step.note(f"the official release cannot be had: {error}")
        go_install(step)
        how = "built by go install"
    if (version := version_of(CACHED)) is None or not is_compatible(version):
        raise SetupError(f"{CACHED} is not Open Policy Agent {PINNED}")
    step.done(f"{PINNED} at {CACHED}, {how}")
    return CACHED


def version_of(opa: Path) -> tuple[int, ...] | None:
    if not opa.exists():
        return None
    answer = subprocess.run([opa, "version"], capture_output=True, text=True, check=False)
    found = re.search(r"^Version: (\d+)\.(\d+)\.(\d+)$", answer.stdout, re.MULTILINE)
    return tuple(map(int, found.groups())) if found else None


def is_compatible(version: tuple[int, ...]) -> bool:
    return version[0] == VERSION[0] and version[1] >= VERSION[1]


def download(step: Step) -> None:
    """Fetches the release and the SHA-256 that is published beside it, and keeps it only if they agree."""
    asset = ASSETS.get((platform.system(), platform.machine()))
    if asset is None:
        raise SetupError(f"there is no release for {platform.system()} on {platform.machine()}")
    step.note(f"downloading release {PINNED}")
    published = fetch(f"{RELEASES}/{asset}.sha256").split()[0].decode()
    binary = fetch(f"{RELEASES}/{asset}")
    if (actual := hashlib.sha256(binary).hexdigest()) != published:
        raise SetupError(f"the downloaded {asset} has SHA-256 {actual}, published is {published}")
    part = CACHED.with_suffix(".part")
    part.write_bytes(binary)
    part.chmod(0o755)
    part.replace(CACHED)


def fetch(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=CONNECT_TIMEOUT_S) as answer:  # noqa: S310  # https, both times
        content: bytes = answer.read()
        return content


def go_install(step: Step) -> None:
    if shutil.which("go") is None:
        raise SetupError(
            f"Open Policy Agent {PINNED} is needed: put `opa` on PATH, or install Go to have it built"
        )
    step.note("building it with `go install`, which takes a minute or two")
    env = os.environ | {"GOBIN": str(CACHED.parent), "CGO_ENABLED": "0"}
    run(step, ["go", "install", f"github.com/open-policy-agent/opa@v{PINNED}"], env=env)


if __name__ == "__main__":
    with answering():
        print(ensure())
