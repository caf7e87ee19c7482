"""What proves where a runner is, and that it is there once."""

from dataclasses import replace
from pathlib import Path

import pytest

from runner import machine
from runner.engine import EngineIdentity
from runner.errors import FolderTaken
from runner.journal import Entry

HERE = EngineIdentity(id="ENGINE-A", is_local=True)
ENTRY = Entry(
    run_id="run_1",
    assignment_id="asg_1",
    fencing_token=1,
    boot_id="boot",
    nonce="n",
    gate_token="g",
    engine_id=HERE.id,
)


def test_a_journal_of_another_engine_is_refused_by_run_and_engine(tmp_path: Path) -> None:
    """Invariant 3: in a copied folder's engine the container is not there, which proves nothing."""
    elsewhere = EngineIdentity(id="ENGINE-B", is_local=True)
    with pytest.raises(FolderTaken, match=r"run_1.*ENGINE-A.*ENGINE-B.*copied") as raised:
        machine.check_journal([ENTRY], elsewhere, tmp_path)
    assert str(tmp_path) in raised.value.message


def test_a_journal_of_this_engine_or_of_an_earlier_release_is_taken(tmp_path: Path) -> None:
    machine.check_journal([ENTRY, replace(ENTRY, engine_id="")], HERE, tmp_path)


def test_a_machine_is_told_by_its_engine_too_and_only_where_that_is_on_it() -> None:
    assert machine.machine_id(HERE) == machine.machine_id(HERE)
    assert machine.machine_id(HERE) != machine.machine_id(replace(HERE, id="ENGINE-B"))
    assert machine.machine_id(replace(HERE, is_local=False)) == ""
    assert machine.machine_id(replace(HERE, id="")) == ""


def test_one_id_is_held_by_one_process_at_a_time() -> None:
    with (
        machine.only_one("rnr_test_machine"),
        pytest.raises(FolderTaken, match="copied"),
        machine.only_one("rnr_test_machine"),
    ):
        pass
    with machine.only_one("rnr_test_machine"), machine.only_one("rnr_test_machine_2"):
        pass
