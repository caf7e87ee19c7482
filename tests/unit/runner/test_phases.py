"""Marks in a container's output become events, and everything else stays as it was."""

from hypothesis import given
from hypothesis import strategies as st

from runner.phases import (
    GateReached,
    Phase,
    PhaseBegan,
    PhaseEnded,
    PhaseEvent,
    PhaseSplitter,
    Step,
    StepBegan,
    mark,
)

NONCE = "0123456789abcdef0123456789abcdef"


def marked(text: str) -> bytes:
    return mark(NONCE, text).encode() + b"\n"


def split(*chunks: bytes) -> list[bytes | PhaseEvent]:
    """All pieces, neighbouring bytes joined."""
    splitter = PhaseSplitter(NONCE)
    pieces = [piece for chunk in chunks for piece in splitter.feed(chunk)] + splitter.finish()
    assert b"" not in pieces
    joined: list[bytes | PhaseEvent] = []
    for piece in pieces:
        if joined and isinstance(piece, bytes) and isinstance(joined[-1], bytes):
            joined[-1] += piece
        else:
            joined.append(piece)
    return joined


WHOLE_RUN = b"".join(
    (
        marked("begin initializing"),
        marked("step init 0"),
        b"init\n",
        marked("gate"),
        marked("begin performing"),
        marked("step command 0"),
        b"no newline",
        marked("end 3"),
        marked("begin finishing"),
        marked("step after_run 0"),
        b"\x1e\x1einterlock:other\n",
        marked("end 0"),
    )
)
WHOLE_RUN_PIECES = [
    PhaseBegan(Phase.INITIALIZING),
    StepBegan(Step.INIT, 0),
    b"init\n",
    PhaseEnded(Phase.INITIALIZING, 0),
    GateReached(),
    PhaseBegan(Phase.PERFORMING),
    StepBegan(Step.COMMAND, 0),
    b"no newline",
    PhaseEnded(Phase.PERFORMING, 3),
    PhaseBegan(Phase.FINISHING),
    StepBegan(Step.AFTER_RUN, 0),
    b"\x1e\x1einterlock:other\n",
    PhaseEnded(Phase.FINISHING, 0),
]


def test_a_whole_run_is_split_into_output_and_events() -> None:
    assert split(WHOLE_RUN) == WHOLE_RUN_PIECES


def test_byte_by_byte_gives_the_same() -> None:
    assert split(*(bytes([byte]) for byte in WHOLE_RUN)) == WHOLE_RUN_PIECES


PARTS = [
    *(b"\x1e", b"\n", b"text", marked("begin initializing"), marked("gate"), marked("end 1")),
    *(marked("bad"), marked("x" * 80), marked("gate")[:20]),
]


@given(st.data())
def test_however_the_output_is_cut_the_result_is_the_same(data: st.DataObject) -> None:
    whole = b"".join(data.draw(st.lists(st.sampled_from(PARTS))))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    chunks = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert split(*chunks) == split(whole)


def test_output_is_not_held_back_after_a_newline() -> None:
    assert PhaseSplitter(NONCE).feed(b"a line\n") == [b"a line\n"]


def test_the_mark_of_another_nonce_is_ordinary_output() -> None:
    other = mark("f" * 32, "gate").encode() + b"\n"
    assert split(other) == [other]


def test_a_mark_that_says_nothing_known_is_ordinary_output() -> None:
    said = (
        "begin",
        "begin dancing",
        "step init x",
        "step init -1",
        "gate",
        "end",
        "end x",
        "é",
        "x" * 100,
    )
    for text in said:
        line = marked(text).partition(b"\n")[2]
        assert split(line) == [line]


def test_a_refused_gate_ends_no_phase() -> None:
    assert split(marked("begin initializing") + marked("gate") + marked("end 125"))[-1] == GateReached()


def test_a_last_mark_without_its_newline_counts() -> None:
    assert split(marked("begin initializing") + marked("end 137").rstrip(b"\n")) == [
        PhaseBegan(Phase.INITIALIZING),
        PhaseEnded(Phase.INITIALIZING, 137),
    ]


def test_a_chunk_without_marks_is_passed_on_uncopied() -> None:
    chunk = b"x" * 100_000
    assert PhaseSplitter(NONCE).feed(chunk)[0] is chunk
