"""Secrets: made, hashed, compared, written."""

from __future__ import annotations

from control_plane.identity.credentials import Credential


def test_a_credential_matches_its_own_hash_and_no_other() -> None:
    one, other = Credential.new("key_1"), Credential.new("key_1")

    assert one.matches(one.hashed())
    assert not one.matches(other.hashed())


def test_a_secret_has_256_bits_and_is_new_each_time() -> None:
    secrets = {Credential.new("key_1").secret for _ in range(100)}

    assert len(secrets) == 100
    assert {len(secret) for secret in secrets} == {43}


def test_the_text_that_a_user_is_given_can_be_read_back() -> None:
    credential = Credential.new("key_1")

    assert Credential.parse(credential.text) == credential


def test_a_text_without_a_dot_has_an_empty_secret() -> None:
    assert Credential.parse("key_1") == Credential("key_1", "")


def test_a_credential_does_not_show_its_secret_when_it_is_printed() -> None:
    credential = Credential.new("key_1")

    assert credential.secret not in f"{credential!r} {credential}"
