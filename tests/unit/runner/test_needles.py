import base64
import random

import pytest

from runner.needles import derive


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_each_line_of_six_bytes_is_a_needle_and_a_shorter_one_is_not(line_end: bytes) -> None:
    needles = derive(line_end.join([b"first-line", b"sixsix", b"five5"]))
    assert {b"first-line", b"sixsix"} <= needles
    assert b"five5" not in needles


def test_each_line_has_its_own_spellings() -> None:
    needles = derive(b'first "line"\nsecond line')
    assert {b'first \\"line\\"', b"second%20line", b"second line".hex().encode()} <= needles


@pytest.mark.parametrize(
    "joined", [b"{\n  key: x\n}", b"{\r\n  key: x\r\n}", b"{   key: x }", b"{ key: x }", b"{\\n  key: x\\n}"]
)
def test_a_value_with_a_short_line_is_a_needle_however_its_lines_are_joined(joined: bytes) -> None:
    assert joined in derive(b"{\n  key: x\n}\n")


def test_a_value_printed_without_quotes_in_a_shell_is_a_needle() -> None:
    assert b"two words" in derive(b"two \t words")


def test_white_space_around_a_value_or_line_is_no_part_of_the_needle() -> None:
    needles = derive(b"  first-line\n\tsecond-line\n")
    assert {b"first-line", b"second-line", b"first-line\n\tsecond-line"} <= needles


@pytest.mark.parametrize("secret", [b"    ", b" ab ", b"a\r\nb", b"\n\n\n\n", b"a   b"])
def test_no_needle_is_shorter_than_a_secret_may_be(secret: bytes) -> None:
    needles = derive(secret)
    assert secret in needles
    assert min(map(len, needles)) >= 4


def test_a_binary_value_has_no_lines() -> None:
    assert b"no line of text" not in derive(b"\0\1\2\nno line of text\n\3\4")


def test_a_plain_token_has_few_needles() -> None:
    assert len(derive(b"ghp_16C7e42F292c6912E7710c838347Ae178B4a")) <= 12


def test_a_pem_key_has_at_most_some_hundred_needles() -> None:
    body = [base64.b64encode(random.Random(line).randbytes(48)) for line in range(24)]
    assert (
        len(derive(b"\n".join([b"-----BEGIN PRIVATE KEY-----", *body, b"-----END PRIVATE KEY-----"]))) < 600
    )
