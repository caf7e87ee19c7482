import base64
import random
import string

import pytest
import structlog

from runner.masking import Masker
from runner.needles import SecretTooLong, SecretTooShort, UnmaskableSecret, derive
from runner.secret import Secret

PEM = b"-----BEGIN PRIVATE KEY-----\n%s\n-----END PRIVATE KEY-----\n" % b"\n".join(
    base64.b64encode(random.Random(1).randbytes(48)) for _ in range(24)
)


def mask(secrets: list[bytes | Secret], *chunks: bytes) -> bytes:
    masker = Masker(secrets)
    return b"".join(map(masker.feed, chunks)) + masker.finish()


def random_chunks(text: bytes, chance: random.Random, largest_bytes: int) -> list[bytes]:
    chunks = []
    while text:
        size = chance.randint(1, largest_bytes)
        chunks.append(text[:size])
        text = text[size:]
    return chunks


def test_text_without_a_secret_passes_at_once_and_unchanged() -> None:
    assert Masker([b"hunter2hunter2"]).feed(b"nothing to see\n\0\xff") == b"nothing to see\n\0\xff"


def test_a_masker_without_secrets_passes_everything() -> None:
    assert mask([], b"any", b"", b"thing") == b"anything"


def test_a_secret_is_masked_inside_a_line() -> None:
    assert mask([b"s3cr3t-value"], b"password=s3cr3t-value;\n") == b"password=***;\n"


def test_a_secret_that_hides_in_the_secret_type_is_masked() -> None:
    assert mask([Secret("pässword")], "is pässword.".encode()) == b"is ***."


def test_overlapping_secrets_print_as_one_token_and_adjacent_ones_as_two() -> None:
    assert mask([b"abcdef", b"efghij"], b"-abcdefghij-efghijabcdef-") == b"-***-******-"


def test_a_secret_cut_by_chunks_at_its_repeating_start_is_masked() -> None:
    assert mask([b"aabaac"], b"aab", b"aab", b"aac") == b"aab***"


def test_a_shorter_secret_is_masked_when_the_longer_one_it_starts_does_not_come() -> None:
    assert mask([b"token", b"token-of-admin"], b"token-of-", b"user") == b"***-of-user"


def test_the_token_of_a_secret_goes_out_while_its_end_may_still_begin_another() -> None:
    masker = Masker([b"abcdef", b"efghij"])
    assert masker.feed(b"abcdef") == b"***"
    assert masker.feed(b"ghij.") == b"."


def test_nothing_is_held_back_but_the_tail_that_may_become_a_secret() -> None:
    masker = Masker([b"s3cr3t-value"])
    assert masker.feed(b"a line\nnext s3cr") == b"a line\nnext "
    assert masker.feed(b"3x") == b"s3cr3x"


def test_all_but_the_last_byte_of_the_longest_needle_is_held_back() -> None:
    secret = string.ascii_letters.encode()
    longest = max(derive(secret), key=len)
    masker = Masker([secret])
    assert [masker.feed(longest[:-1]), masker.feed(longest[-1:])] == [b"", b"***"]


def test_a_secret_cut_short_at_the_end_is_masked_from_eight_bytes_on() -> None:
    assert mask([b"s3cr3t-value"], b"is s3cr3t-") == b"is s3cr3t-"
    assert mask([b"s3cr3t-value"], b"is s3cr3t-v") == b"is ***"


def test_after_finish_the_masker_begins_a_new_stream() -> None:
    masker = Masker([b"s3cr3t-value"])
    assert masker.feed(b"s3cr3t") + masker.finish() == b"s3cr3t"
    assert masker.feed(b"-value") + masker.finish() == b"-value"


def test_finish_twice_gives_nothing_twice() -> None:
    masker = Masker([b"s3cr3t-value"])
    assert (masker.feed(b"s3cr"), masker.finish(), masker.finish()) == (b"", b"s3cr", b"")


def test_an_added_secret_is_masked_from_then_on_and_the_older_ones_still() -> None:
    masker = Masker([b"first-secret"])
    before = masker.feed(b"second-secret first-secret\n")
    masker.add([b"second-secret"])
    after = masker.feed(b"second-secret first-secret\n")
    assert (before, after) == (b"second-secret ***\n", b"*** ***\n")


def test_an_added_secret_is_masked_that_began_in_what_was_held_back() -> None:
    masker = Masker([b"shared-first"])
    held = masker.feed(b"shared-")
    masker.add([b"shared-second"])
    assert held + masker.feed(b"second!") == b"***!"


@pytest.mark.parametrize("secret", [b"", b"abc", Secret("abc")])
def test_a_secret_under_four_bytes_is_refused_with_the_reason(secret: bytes | Secret) -> None:
    with pytest.raises(SecretTooShort, match=r"too short to mask: it needs at least 4"):
        Masker([secret])


def test_a_secret_over_64_kib_is_refused_with_the_reason() -> None:
    with pytest.raises(SecretTooLong, match=r"65537 bytes is too long to mask: at most 65536"):
        Masker([b"x" * 65537])


def test_a_refused_addition_changes_nothing() -> None:
    masker = Masker([b"first-secret"])
    with pytest.raises(UnmaskableSecret):
        masker.add([b"second-secret", b"abc"])
    assert masker.feed(b"first-secret second-secret ") == b"*** second-secret "


def test_a_short_secret_is_masked_and_warned_of_without_being_shown() -> None:
    with structlog.testing.capture_logs() as logs:
        assert mask([b"hunt", b"hunter"], b"a hunt ") == b"a *** "
    assert logs == [{"event": "masking.short_secret", "log_level": "warning", "size_bytes": 4}]


def test_a_pem_key_is_masked_whole_by_line_and_in_any_encoding() -> None:
    indented = b"".join(b"    " + line + b"\n" for line in PEM.splitlines())
    encoded = base64.b64encode(PEM)
    wrapped = base64.encodebytes(PEM)
    chance = random.Random(2)
    for text, expected in (
        (PEM, b"***\n"),
        (indented, b"    ***\n" * 26),
        (encoded, b"***"),
        (wrapped, b"***\n"),
        (wrapped.replace(b"\n", b"\r\n"), b"***\r\n" * len(wrapped.splitlines())),
        (PEM.replace(b"\n", b"\\n"), b"***\\n"),
        (PEM.replace(b"\n", b"\r\n"), b"***\r\n" * 26),
    ):
        assert mask([PEM], b"key: ", *random_chunks(text, chance, 100), b".") == b"key: " + expected + b"."


def test_two_thousand_secrets_are_masked_in_every_spelling_within_garbage() -> None:
    chance = random.Random(3)
    secrets = [
        "".join(chance.choices(string.ascii_letters + "+/=&' ", k=chance.randint(16, 40))).strip().encode()
        for _ in range(2000)
    ]
    needles = [chance.choice(sorted(derive(secret))) for secret in secrets]
    garbage = [chance.randbytes(chance.randint(0, 30)).replace(b"*", b"") + b"\0" for _ in needles]
    text = b"".join(before + needle + b"\0" for before, needle in zip(garbage, needles, strict=True))

    output = mask([*secrets], *random_chunks(text, chance, 5000))

    assert output == b"".join(before + b"***\0" for before in garbage)


def test_one_large_feed_equals_many_small_ones() -> None:
    secret = b"s3cr3t-value"
    text = (b"x" * 9_999 + secret) * 3_000
    assert mask([secret], text) == (b"x" * 9_999 + b"***") * 3_000


@pytest.mark.parametrize("secret", [bytes(65536), b"ab" * 32768, random.Random(4).randbytes(65536)])
def test_the_largest_secrets_are_masked(secret: bytes) -> None:
    masker = Masker([secret])
    chunks = random_chunks(secret, random.Random(5), 16384)
    assert b"".join(map(masker.feed, [b"<", *chunks, b">"])) + masker.finish() == b"<***>"
