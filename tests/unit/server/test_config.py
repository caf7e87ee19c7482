"""The configuration is checked whole, and what is wrong is named with what to do."""

from pathlib import Path

import pytest

from control_plane import config


def read(**variables: str) -> config.Config:
    return config.read({f"INTERLOCK_{name}": value for name, value in variables.items()}, is_terminal=False)


@pytest.mark.parametrize(
    "listen", ["127.0.0.1:7420", "[::1]:7420", "localhost:0", "127.8.9.10:1", "unix:///run/interlock.sock"]
)
def test_plaintext_is_fine_where_nobody_else_can_listen(listen: str) -> None:
    assert read(LISTEN=listen).tls is None


@pytest.mark.parametrize(
    "listen", ["0.0.0.0:7420", "[::]:7420", "10.0.0.1:7420", "interlock.example.com:7420"]
)
def test_plaintext_that_others_can_reach_is_refused(listen: str) -> None:
    with pytest.raises(config.ConfigError, match="INTERLOCK_TLS_CERTIFICATE"):
        read(LISTEN=listen)


def test_plaintext_that_others_can_reach_has_to_be_asked_for_in_words() -> None:
    assert read(LISTEN="0.0.0.0:1", INSECURE="plaintext-is-fine").tls is None
    with pytest.raises(config.ConfigError):
        read(LISTEN="0.0.0.0:1", INSECURE="1")


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"LISTEN": "7420"}, "neither host:port"),
        ({"LISTEN": "localhost:port"}, "neither host:port"),
        ({"TLS_CERTIFICATE": "/x"}, "one of them is missing"),
        ({"TLS_CLIENT_CA": "/x"}, "needs INTERLOCK_TLS_CERTIFICATE"),
        ({"TLS_CERTIFICATE": "/no/such", "TLS_KEY": "/no/such"}, "/no/such is not there"),
        ({"GIT_ALLOW": "ext"}, "not ext"),
        ({"MAX_UPLOAD_BYTES": "much"}, "is not a number"),
        ({"RUNNER_LEASE_S": "0"}, "must be more than 0"),
        ({"RUNNER_LEASE_S": "nan"}, "must be more than 0"),
        ({"MAX_UPLOAD_BYTES": "1e999"}, "must be more than 0 and finite"),
        ({"LOG": "jsn"}, "neither json nor text"),
    ],
)
def test_a_variable_that_does_not_fit_is_named(variables: dict[str, str], words: str) -> None:
    with pytest.raises(config.ConfigError, match=words):
        read(**variables)


def test_everything_has_a_default_below_one_folder(tmp_path: Path) -> None:
    settings = read(DATA_DIR=str(tmp_path))
    assert settings.database_url == f"sqlite:///{tmp_path}/interlock.db"
    assert settings.listen == config.DEFAULT_LISTEN


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("", None), ("never", None), ("0s", 0), ("90s", 90), ("15m", 900), ("12h", 43_200), ("30d", 2_592_000)],
)
def test_output_is_compressed_after_a_number_with_a_unit_or_never(text: str, seconds: float | None) -> None:
    assert read(COMPRESS_AFTER=text).compress_after_s == seconds


@pytest.mark.parametrize("text", ["30", "d", "-1d", "1.5h", "30 d", "soon"])
def test_another_word_for_it_is_refused_with_how_to_write_it(text: str) -> None:
    with pytest.raises(config.ConfigError, match=r"INTERLOCK_COMPRESS_AFTER=.*such as 12h or 30d, or never"):
        read(COMPRESS_AFTER=text)
