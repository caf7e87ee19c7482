"""Which control plane to talk to, and as whom: from the environment, or from a named profile on disk.

The file holds credentials, so it is read only while nobody but its owner can.
"""

import json
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

from interlock.channel import Tls
from interlock.errors import Misconfigured

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, kw_only=True)
class Profile:
    """How one control plane is reached. `token` and `api_key` exclude each other."""

    address: str = ""
    api_key: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    ca_file: str = ""
    certificate_file: str = ""
    key_file: str = ""
    server_name: str = ""
    insecure: bool = False

    def tls(self) -> Tls | None:
        if not (self.ca_file or self.certificate_file or self.key_file or self.server_name):
            return None
        return Tls(
            ca_file=Path(self.ca_file) if self.ca_file else None,
            certificate_file=Path(self.certificate_file) if self.certificate_file else None,
            key_file=Path(self.key_file) if self.key_file else None,
            server_name=self.server_name,
        )


@dataclass(frozen=True)
class Profiles:
    """What the file holds."""

    default: str = ""
    by_name: Mapping[str, Profile] = field(default_factory=dict)

    def get(self, name: str) -> Profile:
        if name not in self.by_name:
            known = ", ".join(sorted(self.by_name)) or "there are none yet"
            raise Misconfigured(f"no profile {name!r} ({known}); `interlock login --profile {name}` makes it")
        return self.by_name[name]

    def with_profile(self, name: str, profile: Profile, *, make_default: bool) -> "Profiles":
        if not NAME.fullmatch(name):
            raise Misconfigured(f"profile name {name!r}: letters, digits, - and _ only")
        default = name if make_default or not self.default else self.default
        return Profiles(default, {**self.by_name, name: profile})

    def without(self, name: str) -> "Profiles":
        self.get(name)
        rest = {each: profile for each, profile in self.by_name.items() if each != name}
        return Profiles("" if self.default == name else self.default, rest)


def default_file(environ: Mapping[str, str]) -> Path:
    if named := environ.get("INTERLOCK_PROFILES_FILE"):
        return Path(named)
    config = environ.get("XDG_CONFIG_HOME") or str(Path(environ.get("HOME", "~")).expanduser() / ".config")
    return Path(config, "interlock", "profiles.toml")


def load(file: Path) -> Profiles:
    """What is stored; nothing where there is no file. Raises Misconfigured where others can read it."""
    try:
        with file.open("rb") as stored:
            mode = os.fstat(stored.fileno()).st_mode & 0o777
            if mode & 0o077:
                raise Misconfigured(
                    f"{file} holds credentials and others can read it (mode {mode:04o}): run chmod 600 {file}"
                )
            content = tomllib.load(stored)
    except FileNotFoundError:
        return Profiles()
    except OSError as error:
        raise Misconfigured(f"{file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Misconfigured(f"{file}: {error}") from error
    return _parsed(file, content)


def save(file: Path, profiles: Profiles) -> None:
    """Replaces the file as a whole; a crash leaves the old one."""
    lines = [f"default = {_quoted(profiles.default)}"]
    for name, profile in sorted(profiles.by_name.items()):
        lines += ["", f"[profiles.{name}]"]
        lines += [f"{key} = {_quoted(value)}" for key, value in asdict(profile).items() if value]
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as target:
            target.write("\n".join(lines) + "\n")
        draft.replace(file)
    except OSError as error:
        raise Misconfigured(f"{file}: {error.strerror}") from error


def resolve(environ: Mapping[str, str], *, name: str = "", address: str = "") -> Profile:
    """What counts now. Arguments come before INTERLOCK_ADDRESS, INTERLOCK_TOKEN, INTERLOCK_API_KEY and
    INTERLOCK_PROFILE, and those before the default profile.

    A profile's credentials go to its own address: another address takes them only where `name` is given too.
    """
    profile = _chosen(environ, name=name, address=address)
    # A token at hand comes before a key that has to be exchanged for one.
    if token := environ.get("INTERLOCK_TOKEN"):
        profile = replace(profile, token=token, api_key="")
    elif api_key := environ.get("INTERLOCK_API_KEY"):
        profile = replace(profile, token="", api_key=api_key)
    if not profile.address:
        raise Misconfigured(
            "no control plane is named: start one with `interlock dev`, store one with `interlock login`, "
            "or set INTERLOCK_ADDRESS"
        )
    return profile


def _chosen(environ: Mapping[str, str], *, name: str, address: str) -> Profile:
    wanted_name = name or environ.get("INTERLOCK_PROFILE", "")
    wanted_address = address or environ.get("INTERLOCK_ADDRESS", "")
    if wanted_address and not wanted_name:
        return Profile(address=wanted_address)
    stored = load(default_file(environ))
    chosen = wanted_name or stored.default
    profile = stored.get(chosen) if chosen else Profile()
    if wanted_address in ("", profile.address):
        return profile
    return replace(profile if name else Profile(), address=wanted_address)


def _parsed(file: Path, content: Mapping[str, object]) -> Profiles:
    default, tables = content.get("default", ""), content.get("profiles", {})
    if not isinstance(default, str) or not isinstance(tables, dict):
        raise Misconfigured(f"{file}: `default` must be a name and [profiles.NAME] a table")
    kinds = {each.name: bool if each.name == "insecure" else str for each in fields(Profile)}
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise Misconfigured(f"{file}: [profiles.{name}] must be a table")
        for key, value in table.items():
            if not isinstance(value, kinds.get(key, ())):
                raise Misconfigured(f"{file}: [profiles.{name}] {key}: unknown, or of the wrong type")
    return Profiles(default, {name: Profile(**table) for name, table in tables.items()})


def _quoted(value: str | bool) -> str:
    # A JSON string is a TOML string but for DEL, which TOML wants escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
