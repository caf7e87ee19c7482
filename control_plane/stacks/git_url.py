"""Which git repositories, refs and credentials are accepted. Pure; each check gives the problem, or None."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple
from urllib.parse import SplitResult, urlsplit

from interlock.v1 import stack_pb2

# A commit in full: SHA-1 or SHA-256.
_COMMIT: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_HOST: Final = re.compile(r"[A-Za-z0-9._][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\]")
_SCP_LIKE: Final = re.compile(r"[A-Za-z0-9._][A-Za-z0-9._-]*@[A-Za-z0-9._][A-Za-z0-9._-]*:(?P<path>.+)")
_NOT_PRINTABLE: Final = re.compile(r"[\x00-\x20\x7f\\]")
# git check-ref-format(1), rules 3-6 and 8-10; `*?[` would be patterns for ls-remote.
_BAD_IN_REF: Final = re.compile(r"\.\.|[\x00-\x20\x7f~^:?*\[\\]|@\{|//|/\.|^[-./@]|[./]$|\.lock(?:/|$)")


@dataclass(frozen=True, slots=True)
class GitRules:
    """What this installation allows beyond https and ssh."""

    allow_http: bool = False
    allow_file: bool = False

    @property
    def protocols(self) -> tuple[str, ...]:
        """As in GIT_ALLOW_PROTOCOL."""
        more = {"http": self.allow_http, "file": self.allow_file}
        return ("https", "ssh", *(name for name, is_allowed in more.items() if is_allowed))


class Origin(NamedTuple):
    """Whom a credential is shown to."""

    scheme: str
    host: str


def problem_with_url(url: str, rules: GitRules) -> str | None:
    """Nothing that git would take for an option, a helper program or a local path gets through."""
    return next(_url_problems(url, rules), None)


def problem_with_ref(ref: str) -> str | None:
    if ref.startswith("-"):
        return "begins with '-', like an option"
    if _BAD_IN_REF.search(ref):
        return "is no name of a branch or tag (see git check-ref-format)"
    return None


def problem_with_credential(url: str, credential: stack_pb2.GitCredential) -> str | None:
    """Whether the credential fits the address; an empty one means none."""
    problems = _ssh_problems(credential) if is_ssh(url) else _password_problems(credential)
    return next(problems, None)


def is_commit(ref: str) -> bool:
    """A commit's full hash, which needs no look-up."""
    return _COMMIT.fullmatch(ref) is not None


def is_ssh(url: str) -> bool:
    return origin(url).scheme == "ssh"


def origin(url: str) -> Origin:
    """Of an accepted address: scheme and host with port, in lower case."""
    if "://" in url:
        parts = urlsplit(url)
        return Origin(parts.scheme.lower(), parts.netloc.rpartition("@")[2].lower())
    return Origin("ssh", url.partition("@")[2].partition(":")[0].lower())


def _url_problems(url: str, rules: GitRules) -> Iterator[str]:
    if _NOT_PRINTABLE.search(url):
        yield "has a space, a backslash or a control character in it"
    if url.startswith("-"):
        yield "begins with '-', like an option"
    if "::" in url.partition("/")[0]:
        yield "names a remote helper (TRANSPORT::ADDRESS), which could run programs on the server"
    if "://" in url:
        yield from _address_problems(url, rules)
    else:
        yield from _scp_like_problems(url)


def _scp_like_problems(url: str) -> Iterator[str]:
    parts = _SCP_LIKE.fullmatch(url)
    if parts is None:
        yield "is no https:// or ssh:// address, nor user@host:path"
    elif parts["path"].startswith("-"):
        yield "has a path that begins with '-', like an option"


def _address_problems(url: str, rules: GitRules) -> Iterator[str]:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  # raises where it is no number
    except ValueError:
        yield "has no valid host name or port"
        return
    scheme = parts.scheme.lower()
    if scheme not in ("https", "ssh", "http", "file"):
        yield f"has the scheme {scheme!r}; use https:// or ssh://"
    if scheme not in rules.protocols:
        yield f"is read by {scheme}, which this server does not allow"
    if scheme != "file":
        yield from _host_problems(parts, scheme)
    elif parts.netloc or not parts.path.startswith("/"):
        yield "is not file:///ABSOLUTE/PATH"


def _host_problems(parts: SplitResult, scheme: str) -> Iterator[str]:
    user, at, host = parts.netloc.rpartition("@")
    if (at and scheme != "ssh") or ":" in user:
        yield "has a credential in it; put it into `credential`"
    if at and (not user or user.startswith("-")):
        yield "has no valid user name"
    if not _HOST.fullmatch(re.sub(r":\d*$", "", host)):
        yield "has no valid host name"
    if not parts.path.strip("/"):
        yield "has no path"


def _ssh_problems(credential: stack_pb2.GitCredential) -> Iterator[str]:
    if credential.username or credential.password:
        yield "is a user name or password, but ssh reads the repository; give it an ssh_private_key"
    if bool(credential.ssh_private_key) != bool(credential.ssh_known_hosts):
        yield "needs both ssh_private_key and ssh_known_hosts (what `ssh-keyscan HOST` prints, checked)"


def _password_problems(credential: stack_pb2.GitCredential) -> Iterator[str]:
    if credential.ssh_private_key or credential.ssh_known_hosts:
        yield "is an ssh key, but the repository is not read by ssh; give username and password"
    if credential.username and not credential.password:
        yield "has a user name without a password"
    if any(char in text for text in (credential.username, credential.password) for char in "\r\n"):
        yield "has a line break in the user name or password"
