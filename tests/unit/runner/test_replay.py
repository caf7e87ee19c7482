"""Frames of the engine's log, as measured on a real engine, become the bytes that were written."""

from runner.replay import ReplayDecoder

FIRST, SECOND, THIRD = (f"2026-11-24T02:00:00.00000000{digit}Z ".encode() for digit in "123")
PIECE = b"x" * 16384


def decode(*frames: bytes) -> bytes:
    decoder = ReplayDecoder()
    return b"".join(decoder.feed(frame) for frame in frames)


def test_lines_stay_as_they_are() -> None:
    assert decode(FIRST + b"a b\n", SECOND + b"\n", THIRD + b"c") == b"a b\n\nc"


def test_pieces_of_a_long_line_share_their_timestamp() -> None:
    assert (
        decode(FIRST + PIECE, FIRST + PIECE, FIRST + b"end\n", SECOND + b"next\n")
        == PIECE * 2 + b"end\nnext\n"
    )


def test_a_newline_that_was_dropped_behind_a_long_line_comes_back() -> None:
    assert decode(FIRST + PIECE, SECOND + b"next\n") == PIECE + b"\nnext\n"
    assert decode(FIRST + PIECE, SECOND, THIRD + b"next\n") == PIECE + b"\nnext\n"


def test_two_lines_of_one_timestamp_are_no_long_line() -> None:
    assert decode(FIRST + b"a\n", FIRST + b"b\n", SECOND + b"c\n") == b"a\nb\nc\n"
