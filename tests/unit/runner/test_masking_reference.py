"""The masker against a brute-force reference: whatever the chunks, the same bytes, and no needle among them.

Invariant 5: no secret byte leaves the runner unmasked, across any chunk boundary.
"""

from collections.abc import Iterable, Iterator
from itertools import combinations, pairwise

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.automaton import AhoCorasickRsEngine, Automaton, DaachorseEngine, Engine
from runner.masking import Masker
from runner.needles import derive

Additions = list[tuple[int, set[bytes]]]
"""Offsets in the text, in order, and the needles added there."""


def reference(text: bytes, additions: Additions, *, finished: bool) -> bytes:
    """What the masker must have given out after this text, byte by byte, by trying everything."""
    known: list[tuple[bytes, int]] = []  # a needle, and the offset from which on it is looked for
    for offset, needles in additions:
        seen_from = unfinished_from(text[:offset], known)
        known += [(needle, seen_from) for needle in needles]

    spans = [
        (start, start + len(needle))
        for needle, seen_from in known
        for start in range(seen_from, len(text))
        if text.startswith(needle, start)
    ]
    until = unfinished_from(text, known)
    if finished:
        if len(text) - until >= 8:
            spans.append((until, len(text)))
        until = len(text)

    output = b""
    for at in range(until):
        if any(start < at < end for start, end in spans):
            continue  # goes on from the byte before
        covered = any(start == at for start, end in spans)
        output += b"***" if covered else text[at : at + 1]
    return output


def unfinished_from(text: bytes, known: list[tuple[bytes, int]]) -> int:
    """Where the longest tail starts that is the beginning of a needle, but not all of it."""
    for start in range(len(text)):
        tail = text[start:]
        visible = (needle for needle, seen_from in known if seen_from <= start)
        if any(needle.startswith(tail) and needle != tail for needle in visible):
            return start
    return len(text)


def mask(secrets: Iterable[bytes], chunks: Iterable[bytes]) -> bytes:
    masker = Masker(secrets)
    return b"".join(masker.feed(chunk) for chunk in chunks) + masker.finish()


def cut(text: bytes, places: Iterable[int]) -> list[bytes]:
    return [text[start:end] for start, end in pairwise([0, *sorted(places), len(text)])]


def chunkings(text: bytes) -> Iterator[list[bytes]]:
    for count in range(len(text)):
        for places in combinations(range(1, len(text)), count):
            yield cut(text, places)


@pytest.fixture(autouse=True, scope="module")
def _quiet_log() -> Iterator[None]:
    with structlog.testing.capture_logs():
        yield


@pytest.mark.parametrize(
    ("secrets", "text"),
    [
        ([b"aaab"], b"xaaaaabaab"),
        ([b"aaaa"], b"aaaaaaaaaaa"),
        ([b"aaaa", b"aaaaaa"], b"aaaaabaaaaaa"),
        ([b"abab"], b"xabababxabab"),
        ([b"abab", b"ababab", b"babb"], b"abababbabab"),
        ([b"abcd", b"abcdefgh"], b"abcdefgabcd"),
        ([b"abcd", b"cdef", b"efgh"], b"abcdefghcd"),
        ([b"abcd", b"efgh"], b"abcdefghabcd"),
        ([b"abcdefghij"], b"xyabcdefghi"),
        ([b"abcdefghij"], b"xyzabcdefg"),
        ([b"abcdefghij", b"fghi"], b"xabcdefghia"),
        ([b"ab\ncd"], b"ab cdab\r\ncd"),
        ([b"\0\xff\xfe\0"], b"\0\0\xff\xfe\0\xff\xfe\0"),
    ],
)
def test_every_way_to_cut_a_text_gives_the_same_output(secrets: list[bytes], text: bytes) -> None:
    expected = reference(text, [(0, set().union(*map(derive, secrets)))], finished=True)
    for chunks in chunkings(text):
        assert mask(secrets, chunks) == expected, chunks


secret_values = st.one_of(
    st.text("ab", min_size=4, max_size=9).map(str.encode),
    st.text("ab\n ", min_size=4, max_size=20).map(str.encode),
    st.builds(lambda unit, times: unit * times, st.binary(min_size=1, max_size=3), st.integers(4, 16)),
    st.binary(min_size=4, max_size=40),
).filter(lambda value: b"*" not in value)


@st.composite
def texts_about(draw: st.DrawFn, needles: list[bytes]) -> bytes:
    """Needles, their beginnings and ends, and garbage, in any order and without anything between them."""
    needle = st.sampled_from(needles)
    portion = st.floats(0, 1)
    fragment = st.one_of(
        needle,
        needle,
        st.builds(lambda whole, share: whole[: int(len(whole) * share)], needle, portion),
        st.builds(lambda whole, share: whole[int(len(whole) * share) :], needle, portion),
        st.text("ab\n", max_size=4).map(str.encode),
        st.binary(max_size=4),
    )
    return b"".join(draw(st.lists(fragment, max_size=6)))[:240]


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_output_is_that_of_the_reference_at_every_moment(data: st.DataObject) -> None:
    secrets = data.draw(st.lists(secret_values, min_size=1, max_size=3))
    needles = set().union(*map(derive, secrets))
    text = data.draw(texts_about(sorted(needles)))
    chunks = cut(text, data.draw(st.sets(st.integers(0, len(text)), max_size=12)))

    masker = Masker(secrets)
    fed = output = b""
    for chunk in chunks:
        fed += chunk
        output += masker.feed(chunk)
        assert output == reference(fed, [(0, needles)], finished=False)
    output += masker.finish()
    assert output == reference(text, [(0, needles)], finished=True)
    assert b"*" in text or not any(needle in output for needle in needles)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_secrets_added_midway_are_masked_from_what_was_held_back(data: st.DataObject) -> None:
    secrets = data.draw(st.lists(secret_values, min_size=1, max_size=4, unique=True))
    text = data.draw(texts_about(sorted(set().union(*map(derive, secrets)))))
    offset = st.integers(0, len(text))
    arrivals = sorted((data.draw(offset), secret) for secret in secrets)
    places = {at for at, _ in arrivals} | data.draw(st.sets(offset, max_size=8))

    masker, fed, output, waiting = Masker(), 0, b"", list(arrivals)
    for chunk in cut(text, places):
        while waiting and waiting[0][0] == fed:
            masker.add([waiting.pop(0)[1]])
        output += masker.feed(chunk)
        fed += len(chunk)
    for _, secret in waiting:
        masker.add([secret])
    output += masker.finish()

    assert output == reference(text, [(at, derive(secret)) for at, secret in arrivals], finished=True)


@pytest.mark.parametrize("engine_for", [DaachorseEngine, AhoCorasickRsEngine])
@settings(max_examples=200, deadline=None)
@given(st.data())
def test_both_engines_find_what_trying_everything_finds(
    engine_for: type[Engine], data: st.DataObject
) -> None:
    needles = derive(data.draw(secret_values)) | derive(data.draw(secret_values))
    text = data.draw(texts_about(sorted(needles)))
    automaton = Automaton(needles, engine_for=engine_for)

    covered = {at for start, end in automaton.occurrences(text) for at in range(start, end)}

    assert covered == {
        start + at
        for needle in needles
        for start in range(len(text))
        if text.startswith(needle, start)
        for at in range(len(needle))
    }
    assert automaton.open_tail(text) == unfinished_from(text, [(needle, 0) for needle in needles])
