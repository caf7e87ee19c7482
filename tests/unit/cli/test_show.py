"""What commands print, on a pipe and as JSON."""

import json

import pytest

from interlock.cli import show
from interlock.types import Caller


def test_a_table_in_a_pipe_is_tab_separated_and_has_no_heading(capsys: pytest.CaptureFixture[str]) -> None:
    callers = [Caller(id="key_1", login="ada"), Caller(id="key_2", login="bo")]

    show.table(
        callers, {"ID": lambda caller: caller.id, "LOGIN": lambda caller: caller.login}, show.Format.TEXT
    )

    assert capsys.readouterr().out == "key_1\tada\nkey_2\tbo\n"


def test_json_has_empty_fields_too(capsys: pytest.CaptureFixture[str]) -> None:
    show.table([Caller(id="key_1")], {}, show.Format.JSON)

    assert json.loads(capsys.readouterr().out) == [
        {"id": "key_1", "login": "", "name": "", "teams": [], "admin": False, "machine": False}
    ]


def test_an_empty_list_is_an_empty_list_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    empty: list[Caller] = []

    show.table(empty, {}, show.Format.JSON)

    assert json.loads(capsys.readouterr().out) == []


def test_a_record_leaves_empty_fields_out(capsys: pytest.CaptureFixture[str]) -> None:
    show.record(Caller(), {"login": "ada", "teams": ""}, show.Format.TEXT)

    assert capsys.readouterr().out == "login\tada\n"


def test_other_peoples_names_cannot_move_the_cursor_or_break_the_line() -> None:
    assert show.visible("a\x1b[2Jb\tc\nd\u202ee é") == "a\\x1b[2Jb\\tc\\nd\\u202ee é"
