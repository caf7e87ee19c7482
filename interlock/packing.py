"""A folder as a tar archive: the same files give the same bytes, whoever packs them and when.

Left out are `.git` and what `.interlockignore` names, in the syntax of .gitignore.
"""

import gzip
import os
import re
import stat
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from interlock.errors import Misconfigured

IGNORE_FILE = ".interlockignore"
ALWAYS_IGNORED = ".git"


@dataclass(frozen=True)
class Rule:
    """One line of an ignore file."""

    pattern: re.Pattern[str]
    folders_only: bool
    keeps: bool


def pack(directory: Path, archive_file: Path) -> None:
    """Writes the archive, gzipped. Raises Misconfigured where something cannot be packed."""
    if not directory.is_dir():
        raise Misconfigured(f"{directory}: not a folder")
    rules = read_rules(directory)
    try:
        with (
            archive_file.open("wb") as raw,
            gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=6, mtime=0) as zipped,
            tarfile.open(fileobj=zipped, mode="w|", format=tarfile.PAX_FORMAT) as archive,
        ):
            for path, relative in _wanted(directory, "", rules):
                _add(archive, path, relative)
    except OSError as error:
        raise Misconfigured(f"{error.filename or directory}: {error.strerror}") from error


def read_rules(directory: Path) -> tuple[Rule, ...]:
    file = directory / IGNORE_FILE
    if not file.is_file():
        return ()
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(f"{file}: cannot be read: {error}") from error
    return tuple(parse_rule(line) for line in lines if line.strip() and not line.startswith("#"))


def parse_rule(line: str) -> Rule:
    text = line.rstrip()
    keeps = text.startswith("!")
    text = text.removeprefix("!").removeprefix("\\")
    folders_only = text.endswith("/")
    text = text.rstrip("/")
    # As in .gitignore: a slash before the end ties the pattern to the top, otherwise it holds at any depth.
    prefix = "" if "/" in text else "(?:.*/)?"
    return Rule(re.compile(prefix + _regex(text.removeprefix("/"))), folders_only, keeps)


def is_ignored(relative: str, *, is_folder: bool, rules: Sequence[Rule]) -> bool:
    """The last rule that matches decides. Below an ignored folder nothing is looked at."""
    if relative.rpartition("/")[2] == ALWAYS_IGNORED:
        return True
    for rule in reversed(rules):
        if (is_folder or not rule.folders_only) and rule.pattern.fullmatch(relative):
            return not rule.keeps
    return False


def _regex(glob: str) -> str:
    tokens = re.split(r"(\*\*/|/\*\*$|\*|\?|\[[^\]]+\])", glob)
    return "".join(_token(token) for token in tokens)


def _token(token: str) -> str:
    match token:
        case "**/":
            return "(?:.*/)?"
        case "/**":
            return "/.*"
        case "*":
            return "[^/]*"
        case "?":
            return "[^/]"
        case _ if len(token) > 2 and token[0] == "[" and token[-1] == "]":
            return "[" + re.sub(r"^!", "^", token[1:-1]).replace("\\", r"\\") + "]"
        case _:
            return re.escape(token)


def _wanted(folder: Path, prefix: str, rules: Sequence[Rule]) -> Iterator[tuple[Path, str]]:
    with os.scandir(folder) as entries:
        ordered = sorted(entries, key=lambda entry: entry.name)
    for entry in ordered:
        relative = prefix + entry.name
        is_folder = entry.is_dir(follow_symlinks=False)
        if is_ignored(relative, is_folder=is_folder, rules=rules):
            continue
        yield Path(entry.path), relative
        if is_folder:
            yield from _wanted(Path(entry.path), relative + "/", rules)


def _add(archive: tarfile.TarFile, path: Path, relative: str) -> None:
    status = path.lstat()
    entry = tarfile.TarInfo(relative)
    entry.mode = 0o755 if status.st_mode & stat.S_IXUSR else 0o644
    if stat.S_ISLNK(status.st_mode):
        entry.type, entry.linkname = tarfile.SYMTYPE, str(path.readlink())
        archive.addfile(entry)
    elif stat.S_ISDIR(status.st_mode):
        entry.type = tarfile.DIRTYPE
        archive.addfile(entry)
    elif stat.S_ISREG(status.st_mode):
        entry.size = status.st_size
        with path.open("rb") as content:
            archive.addfile(entry, content)
    else:
        raise Misconfigured(f"{path}: neither a file nor a folder nor a link; name it in {IGNORE_FILE}")
