"""Frames of an attachment, cut anywhere."""

from hypothesis import given
from hypothesis import strategies as st

from runner.docker_stream import Demultiplexer


def frame(payload: bytes, stream: int = 1) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(payload).to_bytes(4) + payload


@given(st.lists(st.tuples(st.binary(max_size=40), st.sampled_from([1, 2]))), st.data())
def test_payloads_come_out_whole_however_the_stream_is_cut(
    frames: list[tuple[bytes, int]], data: st.DataObject
) -> None:
    whole = b"".join(frame(*each) for each in frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    demultiplexer = Demultiplexer()
    output = b"".join(
        demultiplexer.feed(memoryview(whole[start:end]))
        for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)
    )
    assert output == b"".join(payload for payload, _ in frames)
    assert demultiplexer.is_between_frames


def test_a_stream_that_ends_inside_a_frame_is_not_between_frames() -> None:
    for cut in range(1, 12):
        demultiplexer = Demultiplexer()
        demultiplexer.feed(memoryview(frame(b"four")[:cut]))
        assert demultiplexer.is_between_frames == (cut == 12)
