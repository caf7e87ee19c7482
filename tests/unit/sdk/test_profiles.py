"""Profiles: kept from others' eyes, and their credentials from others' servers."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from interlock import profiles
from interlock.errors import Misconfigured
from interlock.profiles import Profile, Profiles

PROD = Profile(address="prod:443", api_key="key_1.s")
DEV = Profile(address="127.0.0.1:1", api_key="key_2.s")


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """A file with the profiles prod (the default) and dev."""
    file = tmp_path / "profiles.toml"
    profiles.save(file, Profiles("prod", {"prod": PROD, "dev": DEV}))
    return {"INTERLOCK_PROFILES_FILE": str(file)}


def resolve(environ: Mapping[str, str], *, name: str = "", address: str = "", **more: str) -> Profile:
    return profiles.resolve({**environ, **more}, name=name, address=address)


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    odd = Profile(address='unix:///a b/"s"', api_key="key_ü.\\x\x7f", ca_file="/c", insecure=True)
    stored = Profiles("odd", {"odd": odd, "dev": DEV})

    profiles.save(tmp_path / "deep" / "profiles.toml", stored)

    assert profiles.load(tmp_path / "deep" / "profiles.toml") == stored


def test_the_file_can_be_read_by_its_owner_only(tmp_path: Path) -> None:
    profiles.save(tmp_path / "profiles.toml", Profiles("", {"dev": DEV}))

    assert (tmp_path / "profiles.toml").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_file_that_others_can_reach_is_refused(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "profiles.toml"
    profiles.save(file, Profiles("", {"dev": DEV}))
    file.chmod(mode)

    with pytest.raises(Misconfigured, match="chmod 600"):
        profiles.load(file)


@pytest.mark.parametrize(
    "text",
    [
        "default = 1",
        "profiles = 3",
        "[profiles]\ndev = 1",
        "[profiles.dev]\naddress = 1",
        "[profiles.dev]\nx = ''",
        "=",
    ],
)
def test_a_file_of_another_form_is_refused_with_its_name(tmp_path: Path, text: str) -> None:
    file = tmp_path / "profiles.toml"
    file.write_text(text)
    file.chmod(0o600)

    with pytest.raises(Misconfigured, match=r"profiles\.toml"):
        profiles.load(file)


def test_without_anything_said_the_default_profile_counts(environ: dict[str, str]) -> None:
    assert resolve(environ) == PROD


def test_the_environment_names_another_profile(environ: dict[str, str]) -> None:
    assert resolve(environ, INTERLOCK_PROFILE="dev") == DEV


def test_an_argument_comes_before_the_environment(environ: dict[str, str]) -> None:
    assert resolve(environ, name="prod", INTERLOCK_PROFILE="dev") == PROD


def test_an_unknown_profile_is_refused_with_those_there_are(environ: dict[str, str]) -> None:
    with pytest.raises(Misconfigured, match="dev, prod"):
        resolve(environ, name="test")


@pytest.mark.parametrize("more", [{}, {"INTERLOCK_PROFILE": "prod"}], ids=["default", "INTERLOCK_PROFILE"])
def test_another_address_does_not_get_the_profiles_credentials(
    environ: dict[str, str], more: dict[str, str]
) -> None:
    assert resolve(environ, address="other:443", **more) == Profile(address="other:443")
    assert resolve(environ, INTERLOCK_ADDRESS="other:443", **more) == Profile(address="other:443")


def test_another_address_gets_them_where_the_caller_names_the_profile_with_it(
    environ: dict[str, str],
) -> None:
    assert resolve(environ, name="prod", address="other:443").api_key == PROD.api_key


def test_credentials_of_the_environment_take_the_place_of_the_profiles(environ: dict[str, str]) -> None:
    token = resolve(environ, INTERLOCK_TOKEN="t", INTERLOCK_API_KEY="key_3.s")

    assert (token.token, token.api_key) == ("t", "")
    assert resolve(environ, INTERLOCK_API_KEY="key_3.s").api_key == "key_3.s"


def test_without_address_and_profile_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"interlock dev.*interlock login.*INTERLOCK_ADDRESS"):
        profiles.resolve({"INTERLOCK_PROFILES_FILE": str(tmp_path / "none")})


def test_a_profile_does_not_show_its_credentials() -> None:
    assert "key_1" not in repr(PROD)


@pytest.mark.parametrize("name", ["", "a b", "../x", "a]"])
def test_a_name_that_would_break_the_file_is_refused(name: str) -> None:
    with pytest.raises(Misconfigured, match="letters, digits"):
        Profiles().with_profile(name, DEV, make_default=False)


def test_the_default_profile_is_forgotten_with_its_name() -> None:
    assert Profiles("dev", {"dev": DEV}).without("dev") == Profiles()
