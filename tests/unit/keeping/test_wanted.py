"""An output is as its record says, or the difference is found, however it is cut into blocks."""

import hashlib
from io import StringIO

from hypothesis import given
from hypothesis import strategies as st

from control_plane.keeping.progress import Progress
from control_plane.keeping.report import Fault, Report
from control_plane.keeping.wanted import Point, Wanted, examine, missing

CONTENT = bytes(range(256)) * 4
cuts = st.lists(st.integers(1, 300), max_size=8)


def blocks(content: bytes, lengths: list[int]) -> list[bytes]:
    found = []
    for length in lengths:
        found.append(content[:length])
        content = content[length:]
    return [*found, content]


def wanted(*sizes: int, is_all: bool) -> Wanted:
    points = tuple(Point(size, hashlib.sha256(CONTENT[:size]).hexdigest()) for size in sizes)
    return Wanted("run_1", points, is_all)


@given(
    recorded=st.lists(st.integers(0, len(CONTENT)), max_size=2), stored=st.integers(0, len(CONTENT)), cut=cuts
)
def test_all_that_is_on_record_must_be_there_and_more_only_of_what_is_not_over(
    recorded: list[int], stored: int, cut: list[int]
) -> None:
    longest = max(recorded, default=0)
    for is_all in (True, False):
        found = examine(wanted(*recorded, is_all=is_all), blocks(CONTENT[:stored], cut))
        assert (found.size_bytes, found.sha256) == (stored, hashlib.sha256(CONTENT[:stored]).hexdigest())
        assert bool(found.problem) == (stored < longest or (is_all and stored > longest))


@given(recorded=st.integers(1, len(CONTENT)), changed=st.integers(0, len(CONTENT) - 1), cut=cuts)
def test_a_changed_byte_counts_where_the_record_speaks_of_it(
    recorded: int, changed: int, cut: list[int]
) -> None:
    content = bytearray(CONTENT)
    content[changed] ^= 1
    found = examine(wanted(recorded, is_all=False), blocks(bytes(content), cut))
    assert bool(found.problem) == (changed < recorded)


@given(recorded=st.lists(st.integers(0, 1 << 40), max_size=3), is_all=st.booleans())
def test_a_list_on_the_disk_says_the_same(recorded: list[int], is_all: bool) -> None:
    points = tuple(Point(size, f"{size:064x}") for size in recorded)
    listed = Wanted("run_1", points, is_all)
    assert Wanted.of_line(listed.to_line()) == listed


def test_nothing_stored_is_a_problem_only_where_something_is_on_record() -> None:
    assert not missing(wanted(is_all=True)).problem
    assert missing(wanted(7, is_all=True)).problem == "nothing is stored, 7 bytes are on record"


def test_where_nobody_sits_at_the_terminal_progress_is_a_line_for_each_step() -> None:
    stream = StringIO()
    progress = Progress(stream)
    progress.begin("outputs", 2)
    progress.add(1 << 20)
    progress.add(1 << 19)
    progress.end()
    assert stream.getvalue() == "outputs: 2 of 2, 1.5 MiB\n"


def test_a_report_says_what_is_damaged_before_all_else() -> None:
    report = Report("/backup", faults=[Fault("output", "run_1", "gone", is_old=True)])
    assert not report.intact
    assert next(report.lines()) == "damaged: output run_1: gone (already when the backup was made)"
