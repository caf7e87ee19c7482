"""A stack's source, from the options of `stack create` and `stack update`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

import interlock
from interlock.cli import show
from interlock.errors import Misconfigured
from interlock.types import GitCredential, Source

Git = Annotated[str | None, typer.Option("--git", metavar="URL", help="The repository with its files.")]
Ref = Annotated[str | None, typer.Option("--ref", help="Branch, tag or commit. By default main.")]
ProjectRoot = Annotated[
    str | None, typer.Option("--project-root", help="The folder in the source to work in.")
]
Username = Annotated[str, typer.Option("--git-username", help="For https, with --git-password-file.")]
PasswordFile = Annotated[
    Path | None,
    typer.Option("--git-password-file", allow_dash=True, help="Password or token; - reads standard input."),
]
SshKeyFile = Annotated[Path | None, typer.Option("--ssh-key-file", help="For ssh: a private key.")]
KnownHostsFile = Annotated[
    Path | None,
    typer.Option("--ssh-known-hosts-file", help="For ssh: the host's lines in known_hosts format."),
]


def credential(
    username: str, password_file: Path | None, key_file: Path | None, known_hosts_file: Path | None
) -> GitCredential | None:
    """What a private repository is read with; None where no option asks for any."""
    if not (username or password_file or key_file or known_hosts_file):
        return None
    return GitCredential(
        username=username,
        password=_content(password_file).strip(),
        ssh_private_key=_content(key_file),
        ssh_known_hosts=_content(known_hosts_file),
    )


def new(
    git: str | None, ref: str | None, project_root: str | None, credential: GitCredential | None
) -> Source:
    if git is None:
        if ref or credential:
            raise typer.BadParameter("--ref and credentials belong to --git URL")
        return interlock.archive(project_root=project_root or "")
    return interlock.git(git, ref=ref or "main", project_root=project_root or "", credential=credential)


def changed(
    before: Source,
    git: str | None,
    ref: str | None,
    project_root: str | None,
    credential: GitCredential | None,
) -> Source | None:
    """The source with what is given in place of the old; None where nothing is."""
    if git is None and ref is None and project_root is None and credential is None:
        return None
    if git is not None and not before.HasField("git"):
        return new(git, ref, before.project_root if project_root is None else project_root, credential)
    after = Source()
    after.CopyFrom(before)
    if project_root is not None:
        after.project_root = project_root
    if git is not None or ref is not None or credential is not None:
        if not before.HasField("git"):
            raise typer.BadParameter(
                "the stack's files are uploaded; --ref and credentials belong to --git URL"
            )
        after.git.repository_url = git or before.git.repository_url
        after.git.ref = ref or before.git.ref
        if credential is not None:
            after.git.credential.CopyFrom(credential)
    return after


def describe(source: Source) -> str:
    folder = f", folder {source.project_root}" if source.project_root else ""
    match source.WhichOneof("kind"):
        case "git":
            secret = " with a credential" if source.git.has_credential else ""
            return f"{source.git.repository_url} at {source.git.ref}{secret}{folder}"
        case "archive" if source.archive.sha256:
            archive = source.archive
            return f"uploaded {show.when(archive.upload_time)}, {archive.size_bytes} bytes, {archive.sha256}{folder}"
        case _:
            return f"nothing uploaded yet{folder}"


def _content(file: Path | None) -> str:
    if file is None:
        return ""
    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(f"{file}: {error}") from error
