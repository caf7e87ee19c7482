"""The demo's own judgement: a step that does not come out as said is told, and nothing it started stays."""

import os
from collections.abc import Sequence

import psutil
import pytest

from scripts.demo import player
from scripts.demo.player import SYSTEM, Player
from scripts.demo.screen import PlainScreen
from scripts.demo.step import Chapter, Outcome, Step
from scripts.demo.wording import verdict

NOTES = {"address": "127.0.0.1:1", "admin": "key_x.secret"}


def step(command: str, **settings: object) -> Step:
    return Step(title="a step", command=command, expected="it works", **settings)  # type: ignore[arg-type]


def played(*steps: Step) -> list[Outcome]:
    demo = Player(PlainScreen(), {"PATH": os.environ["PATH"]})
    demo.notes.update(NOTES)
    try:
        return demo.play([Chapter("a chapter", steps)])
    finally:
        demo.close()


@pytest.mark.parametrize(
    ("tried", "problems"),
    [
        (step("echo hello", says=("hello",), hides=("secret",)), []),
        (step("sh -c 'exit 7'", exit_code=7), []),
        (step("false"), ["the exit code is 1, not 0"]),
        (step("true", exit_code=125), ["the exit code is 0, not 125"]),
        (step("echo hello", says=("hello", "bye")), ["it does not say 'bye'"]),
        (step("echo a secret", hides=("secret",)), ["it shows 6 characters that must be hidden"]),
        (step("true", leaves=lambda: ["container c"]), ["container c is left"]),
        (step("echo {unknown}"), ["not tried: an earlier step did not give 'unknown'"]),
        (step("echo ended", until="ready"), ["it ended with exit code 0"]),
    ],
)
def test_a_step_is_held_against_what_it_says(tried: Step, problems: Sequence[str]) -> None:
    [outcome] = played(tried)
    assert outcome.problems == problems
    assert verdict(outcome).startswith("✗" if problems else "✓")


def test_colours_do_not_hide_what_a_step_looks_for() -> None:
    [outcome] = played(step(r"printf 'a \033[1mtainted\033[0m one\n'", says=("a tainted one",)))
    assert outcome.is_as_expected


def test_a_step_that_never_ends_is_ended_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(player, "STEP_WITHIN_S", 0.2)
    [outcome] = played(step("sh -c 'echo begun; exec sleep 1000'", says=("begun",)))
    assert outcome.problems[0] == "nothing more came within 0 s"
    assert outcome.problems[1].startswith("the exit code is ")


def test_a_command_goes_on_beside_the_next_steps_until_it_is_continued() -> None:
    waiting = "sh -c 'echo number {n}, pid $$; read -r _ < /dev/null; kill -STOP $$; echo went on'"
    outcomes = played(
        step("echo n=42", learns=r"n=(?P<n>\d+)"),
        step(waiting, terminal="other", until="pid", says=("number 42",), learns=r"pid (?P<pid>\d+)"),
        step("sh -c 'kill -CONT {pid}'"),
        step(waiting, continues="other", says=("went on",)),
    )
    assert [outcome.problems for outcome in outcomes] == [[], [], [], []]


def test_nothing_goes_on_after_the_demo_is_closed() -> None:
    demo = Player(PlainScreen(), {"PATH": os.environ["PATH"]})
    demo.notes.update(NOTES)
    command = "sh -c 'echo pid $$ up; exec sleep 1000'"
    demo.play(
        [Chapter("", [step(command, terminal=SYSTEM, until="up", learns=r"(?s)pid (?P<pid>\d+)")])],
    )
    pid = int(demo.notes["pid"])
    assert psutil.pid_exists(pid)
    demo.close()
    assert not psutil.pid_exists(pid)


def test_the_key_that_a_command_prints_is_kept_and_not_shown(capfd: pytest.CaptureFixture[str]) -> None:
    outcomes = played(
        step("sh -c 'echo the-credential; echo a note >&2'", keeps="ann", says=("a note",)),
        step("printenv INTERLOCK_API_KEY", who="ann", says=("the-credential",)),
    )
    assert all(outcome.is_as_expected for outcome in outcomes)
    shown_first = capfd.readouterr().out.split("[2/2]")[0]
    assert "ANN=$(sh" in shown_first
    assert shown_first.count("the-credential") == 1  # in the command itself
