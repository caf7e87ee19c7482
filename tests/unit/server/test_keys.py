"""Secrets at rest: sealed under a key that is not in the database, bound to their place."""

from pathlib import Path

import pytest

from control_plane.keys import MasterKey, MasterKeyError, Sealer

KEY = MasterKey(bytes(range(32)))


def test_what_is_sealed_opens_at_its_place_only() -> None:
    sealer = Sealer(KEY)
    sealed = sealer.seal(b"secret", context="environment/a/TOKEN")
    assert sealer.open(sealed, context="environment/a/TOKEN") == b"secret"
    with pytest.raises(MasterKeyError, match="environment/b/TOKEN"):
        sealer.open(sealed, context="environment/b/TOKEN")


def test_a_changed_byte_is_found() -> None:
    sealer = Sealer(KEY)
    sealed = bytearray(sealer.seal(b"secret", context="x"))
    sealed[-1] ^= 1
    with pytest.raises(MasterKeyError, match="it was changed"):
        sealer.open(bytes(sealed), context="x")


def test_another_key_opens_nothing() -> None:
    sealed = Sealer(KEY).seal(b"secret", context="x")
    with pytest.raises(MasterKeyError, match="another master key"):
        Sealer(MasterKey(bytes(32))).open(sealed, context="x")


def test_the_key_file_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    first = MasterKey.from_file(path).derive("x")
    assert path.stat().st_mode & 0o777 == 0o600
    assert MasterKey.from_file(path).derive("x") == first


def test_a_key_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    MasterKey.from_file(path)
    path.chmod(0o644)
    with pytest.raises(MasterKeyError, match="chmod 600"):
        MasterKey.from_file(path)


@pytest.mark.parametrize("text", ["", "00", "zz" * 32])
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(MasterKeyError):
        MasterKey.from_hex(text)


def test_a_key_does_not_show_itself() -> None:
    assert repr(KEY) == "MasterKey(***)"
