"""Generates the Python stubs of proto/ into interlock/: run by the build hook and by `make stubs`.

Running it again rewrites only what changed. The generated files are never committed.
"""

import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc  # type: ignore[import-untyped]

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"
PACKAGE = ROOT / "interlock"

# protoc writes Python packages after the .proto's path. `buf` must not become a top-level package of ours
# in site-packages, so its stubs move under interlock._vendor and every import of them is rewritten. The
# name in the descriptor pool stays buf/validate/validate.proto, which protovalidate looks for.
MOVED = {Path("interlock/v1"): Path("v1"), Path("buf"): Path("_vendor/buf")}
VENDORED_MODULE = re.compile(r"(?<![\w.])(?=buf\.\w+(?:\.| import )\w+_pb2\b)")

# mypy-protobuf types each stub twice, for grpc and for grpc.aio; the second name does not exist at run time.
STUB_CLASS = re.compile(r"^class (\w+)Stub\b", re.MULTILINE)

INIT = '"""Generated from proto/ when the package is built or installed; never edited, never committed."""\n'


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="interlock-stubs-") as scratch:
        out = Path(scratch)
        if code := generate(out):
            return code
        wanted = dict(placed(out))
    changed = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    for path in changed:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(wanted[path])
    stale = [path for path in present() if path not in wanted]
    for path in stale:
        path.unlink()
    print(f"stubs: {len(wanted)} files, {len(changed)} written, {len(stale)} removed")
    return 0


def generate(out: Path) -> int:
    """Runs protoc over all of proto/ and returns its exit code."""
    options = [f"--{kind}_out={out}" for kind in ("python", "grpc_python")]
    for plugin in ("mypy", "mypy_grpc"):
        options += [f"--plugin={tool(f'protoc-gen-{plugin}')}", f"--{plugin}_out=quiet:{out}"]
    well_known = files("grpc_tools") / "_proto"
    sources = sorted(str(path.relative_to(PROTO)) for path in PROTO.rglob("*.proto"))
    code: int = protoc.main(["protoc", f"-I{PROTO}", f"-I{well_known}", *options, *sources])
    return code


def tool(name: str) -> str:
    """A build front end puts the tool on PATH, a virtual environment beside its python."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        raise SystemExit(f"stubs: {name} not found; install mypy-protobuf (it is in the `dev` extra)")
    return found


def placed(out: Path) -> Iterator[tuple[Path, str]]:
    """Each file's place in the source tree with its text."""
    packages: set[Path] = set()
    for made in sorted(path for path in out.rglob("*") if path.is_file()):
        relative = made.relative_to(out)
        source, target = next(pair for pair in MOVED.items() if relative.is_relative_to(pair[0]))
        text = made.read_text()
        if "_pb2_grpc." in made.name and "Stub" not in text:
            continue  # a .proto without a service
        place = target / relative.relative_to(source)
        packages.update(parent for parent in place.parents if parent != Path())
        if made.name.endswith("_pb2_grpc.py"):
            text += "".join(f"\n{name}AsyncStub = {name}Stub\n" for name in STUB_CLASS.findall(text))
        yield PACKAGE / place, VENDORED_MODULE.sub("interlock._vendor.", text)
    for package in packages:
        yield PACKAGE / package / "__init__.py", INIT


def present() -> Iterator[Path]:
    for target in MOVED.values():
        for suffix in ("*.py", "*.pyi"):
            yield from (PACKAGE / target).rglob(suffix)


if __name__ == "__main__":
    sys.exit(main())
