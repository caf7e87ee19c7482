"""Which git addresses, refs and credentials get in."""

from __future__ import annotations

import pytest

from control_plane.stacks import git_url
from control_plane.stacks.git_url import GitRules
from interlock.v1.stack_pb2 import GitCredential

HTTPS = "https://git.example/acme/infra.git"
SSH = "git@git.example:acme/infra.git"


@pytest.mark.parametrize(
    "url",
    [
        HTTPS,
        "https://git.example:8443/infra",
        "https://[2001:db8::1]/infra.git",
        "ssh://git@git.example/acme/infra.git",
        "ssh://git.example:2222/infra",
        SSH,
        "git@git.example:~ada/infra",
    ],
)
def test_an_ordinary_address_is_accepted(url: str) -> None:
    assert git_url.problem_with_url(url, GitRules()) is None


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("ext::sh -c true", "a space"),
        ("ext::sh", "remote helper"),
        ("ext::https://git.example/x", "remote helper"),
        ("git@git.example::x", "remote helper"),
        ("--upload-pack=touch", "like an option"),
        ("-oProxyCommand=x@y:z", "like an option"),
        ("ssh://-oProxyCommand=x/y", "host name"),
        ("ssh://git@-oProxyCommand=x/y", "host name"),
        ("ssh://-x@git.example/y", "user name"),
        ("git@git.example:-x", "like an option"),
        ("https://ada:secret@git.example/x", "credential"),
        ("https://token@git.example/x", "credential"),
        ("ssh://git:secret@git.example/x", "credential"),
        ("git://git.example/x", "scheme 'git'"),
        ("ftp://git.example/x", "scheme 'ftp'"),
        ("/srv/git/x.git", "no https:// or ssh://"),
        ("../x.git", "no https:// or ssh://"),
        ("git.example:x", "no https:// or ssh://"),
        ("https:///x", "host name"),
        ("https://git.example:no/x", "host name or port"),
        ("https://git.example/", "no path"),
        ("https://git.example/x\nprotocol=http", "control character"),
        ("https://git.example\\@evil.example/x", "backslash"),
        ("http://git.example/x", "does not allow"),
        ("file:///srv/x", "does not allow"),
    ],
)
def test_a_dangerous_address_is_refused_with_the_reason(url: str, problem: str) -> None:
    assert problem in (git_url.problem_with_url(url, GitRules()) or "")


def test_http_and_file_are_accepted_only_where_they_are_allowed() -> None:
    allowed = GitRules(allow_http=True, allow_file=True)

    assert git_url.problem_with_url("http://git.example/x", allowed) is None
    assert git_url.problem_with_url("file:///srv/x", allowed) is None
    assert git_url.problem_with_url("file://host/srv/x", allowed) == "is not file:///ABSOLUTE/PATH"


@pytest.mark.parametrize("ref", ["main", "feature/x", "v1.2.3", "refs/heads/main", "HEAD", "a" * 40])
def test_an_ordinary_ref_is_accepted(ref: str) -> None:
    assert git_url.problem_with_ref(ref) is None


@pytest.mark.parametrize(
    "ref",
    ["-main", "--upload-pack=x", "a..b", "a b", "a^", "a~1", "a:b", "a*", "a?", "a[b]", "a\\b", "@{-1}", "@",
     "a//b", "/a", "a/", ".a", "a/.b", "a.lock", "a.lock/b", "a.", "a\0b"],
)  # fmt: skip
def test_a_ref_that_is_an_option_a_pattern_or_an_expression_is_refused(ref: str) -> None:
    assert git_url.problem_with_ref(ref) is not None


@pytest.mark.parametrize(
    ("url", "credential"),
    [
        (HTTPS, GitCredential()),
        (HTTPS, GitCredential(password="token")),
        (HTTPS, GitCredential(username="ada", password="token")),
        (SSH, GitCredential()),
        (SSH, GitCredential(ssh_private_key="key", ssh_known_hosts="hosts")),
    ],
)
def test_a_credential_that_fits_the_address_is_accepted(url: str, credential: GitCredential) -> None:
    assert git_url.problem_with_credential(url, credential) is None


@pytest.mark.parametrize(
    ("url", "credential"),
    [
        (HTTPS, GitCredential(username="ada")),
        (HTTPS, GitCredential(username="ada\nhost=evil.example", password="token")),
        (HTTPS, GitCredential(ssh_private_key="key", ssh_known_hosts="hosts")),
        (SSH, GitCredential(password="token")),
        (SSH, GitCredential(ssh_private_key="key")),
        (SSH, GitCredential(ssh_known_hosts="hosts")),
    ],
)
def test_a_credential_that_does_not_fit_the_address_is_refused(url: str, credential: GitCredential) -> None:
    assert git_url.problem_with_credential(url, credential) is not None


def test_an_address_belongs_to_its_scheme_host_and_port() -> None:
    assert git_url.origin("https://Git.Example/a") == git_url.origin("https://git.example/b")
    assert git_url.origin("https://git.example/a") != git_url.origin("https://git.example:444/a")
    assert git_url.origin("https://git.example/a") != git_url.origin("ssh://git@git.example/a")
    assert git_url.origin("git@git.example:a") == git_url.origin("ssh://git@git.example/a")
