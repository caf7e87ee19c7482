"""Durations as they are typed and as they are shown."""

from datetime import timedelta

import pytest

from interlock.cli import durations


@pytest.mark.parametrize("text", ["1s", "90s", "30m", "12h", "2d", "3w"])
def test_what_is_shown_is_what_was_typed(text: str) -> None:
    assert durations.text(durations.parse(text)) == text


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "120 min"), (7200, "2 h")]
)
def test_an_expectation_is_told_no_more_exactly_than_it_is_known(seconds: int, shown: str) -> None:
    assert durations.about(timedelta(seconds=seconds)) == shown
