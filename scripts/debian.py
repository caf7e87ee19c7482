"""Installs Debian packages, where that is possible: as root, on a system with apt."""

import os
import shutil
from contextlib import suppress
from pathlib import Path

from scripts.progress import CACHE, SetupError, Step, run

QUIET = {"DEBIAN_FRONTEND": "noninteractive"}
LISTS = Path("/var/lib/apt/lists")


def can_install() -> bool:
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def install(step: Step, *packages: str) -> None:
    """Installs the packages system-wide, saying so."""
    step.note(f"installing Debian's {' and '.join(packages)}")
    _with_fresh_lists(step, ["apt-get", "install", "-y", "-q", "--no-install-recommends", *packages])


def unpack(step: Step, package: str) -> Path:
    """Downloads a package and unpacks it into the cache; the system stays as it is."""
    target = CACHE / "debian" / package
    if not target.exists():
        if shutil.which("dpkg-deb") is None:
            raise SetupError(f"Debian's {package} is needed, and this is not a Debian")
        scratch = CACHE / "debian" / f"{package}.part"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        scratch.chmod(0o777)  # apt downloads as its own user, `_apt`
        step.note(f"downloading Debian's {package}")
        _with_fresh_lists(step, ["apt-get", "download", "-q", package], cwd=scratch)
        archive = next(scratch.glob("*.deb"))
        run(step, ["dpkg-deb", "-x", str(archive), str(scratch)])
        archive.unlink()
        scratch.chmod(0o755)
        scratch.rename(target)
    return target


def _with_fresh_lists(step: Step, command: list[str], cwd: Path | None = None) -> None:
    env = os.environ | QUIET
    if any(LISTS.glob("*_Packages*")):
        try:
            run(step, command, env=env, cwd=cwd)
        except SetupError:
            step.note("apt's lists may be old: fetching them")
        else:
            return
    if os.geteuid() == 0:
        with suppress(SetupError):  # one unreachable source of several fails it; the command itself decides
            run(step, ["apt-get", "update", "-q"], env=env)
    run(step, command, env=env, cwd=cwd)
