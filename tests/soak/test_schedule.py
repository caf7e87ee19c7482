"""A schedule of faults can be had again from its seed."""

from itertools import pairwise

from tests.soak import schedule

TRACKS = [schedule.server("server"), schedule.wire("wire-a"), schedule.wire("wire-b"), schedule.opa("opa")]


def test_the_same_seed_gives_the_same_schedule() -> None:
    assert schedule.drawn("seed", 300, TRACKS) == schedule.drawn("seed", 300, TRACKS)


def test_another_seed_gives_another_schedule() -> None:
    assert schedule.drawn("seed", 300, TRACKS) != schedule.drawn("other", 300, TRACKS)


def test_faults_of_one_target_do_not_overlap_and_come_in_order_of_time() -> None:
    faults = schedule.drawn("seed", 600, TRACKS)
    assert faults == sorted(faults, key=lambda fault: fault.at_s)
    for track in TRACKS:
        own = [fault for fault in faults if fault.target == track.target]
        assert len(own) > 10
        for one, next_one in pairwise(own):
            assert one.at_s + one.for_s < next_one.at_s
