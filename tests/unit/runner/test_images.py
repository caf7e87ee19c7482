"""The lines that a pull puts into a run's output."""

from runner.images import PullProgress


def test_a_pull_of_many_messages_gives_a_few_lines() -> None:
    progress = PullProgress()
    lines = []
    for percent in range(101):
        for layer in ("a", "b"):
            detail = {"current": percent * 1_000_000, "total": 100_000_000}
            lines += progress.feed({"status": "Downloading", "id": layer, "progressDetail": detail})
    lines += progress.feed({"status": "Download complete", "id": "a"})
    lines += progress.feed({"status": "Pull complete", "id": "a"})
    lines += progress.feed({"status": "Status: Downloaded newer image for x:1"})
    assert len(lines) == 11
    assert lines[0] == "Downloaded 20 of 200 MB"
    assert lines[-2:] == ["Downloaded 200 of 200 MB", "Status: Downloaded newer image for x:1"]


def test_a_message_without_figures_says_nothing() -> None:
    assert PullProgress().feed({"status": "Downloading", "id": "a"}) == []
    assert PullProgress().feed({}) == []
