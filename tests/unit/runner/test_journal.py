import json
from dataclasses import replace
from pathlib import Path

import pytest
import structlog.testing

from runner.journal import Entry, Journal, Outcome, Result, Stage

ENTRY = Entry(
    run_id="run_1",
    assignment_id="asg_1",
    fencing_token=7,
    boot_id="boot",
    nonce="n",
    gate_token="g",
    stage=Stage.GATE_PASSED,
    container_id="c1",
)
FILE = Path("assignments", "asg_1", "journal.json")


def test_what_was_written_is_found_by_the_next_process(tmp_path: Path) -> None:
    ended = replace(
        ENTRY,
        assignment_id="asg_2",
        run_id="run_0",
        stage=Stage.ENDED,
        result=Result(outcome=Outcome.EXITED, exit_code=3, reason="why"),
    )
    journal = Journal(tmp_path)
    journal.write(ENTRY)
    journal.write(ended)
    assert Journal(tmp_path).load() == [ended, ENTRY]


def test_a_new_entry_replaces_the_old_one_and_leaves_no_other_file(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.write(replace(ENTRY, stage=Stage.ACCEPTED))
    journal.write(ENTRY)
    assert journal.load() == [ENTRY]
    assert [path.name for path in (tmp_path / FILE).parent.iterdir()] == ["journal.json"]


def test_only_the_owner_may_read_the_journal(tmp_path: Path) -> None:
    Journal(tmp_path).write(ENTRY)
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600


def test_a_half_written_replacement_is_ignored(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.write(ENTRY)
    (tmp_path / FILE).with_name(".journal.json.new").write_text('{"run')
    assert journal.load() == [ENTRY]


def test_a_removed_assignment_is_gone_with_its_folder(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.write(ENTRY)
    journal.remove("asg_1")
    assert journal.load() == []
    assert not journal.folder_of("asg_1").exists()


def test_a_removal_that_was_cut_short_is_finished_at_the_next_start(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.write(ENTRY)
    (tmp_path / FILE).unlink()
    assert journal.load() == []
    assert not journal.folder_of("asg_1").exists()


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b"{}",
        json.dumps({"format": 2}).encode(),
        json.dumps({"format": 3}).encode(),
        json.dumps({"format": 1, "assignment_id": "asg_1", "stage": "accepted", "result": None}).encode(),
    ],
)
def test_a_damaged_entry_is_set_aside_whole_and_the_others_stay(tmp_path: Path, damage: bytes) -> None:
    journal = Journal(tmp_path)
    other = replace(ENTRY, assignment_id="asg_2")
    journal.write(ENTRY)
    journal.write(other)
    (tmp_path / FILE).write_bytes(damage)
    assert journal.load() == [other]
    assert journal.damaged_assignments() == {"asg_1"}
    [set_aside] = (tmp_path / "damaged").iterdir()
    assert (set_aside / "journal.json").read_bytes() == damage


@pytest.mark.parametrize("change", [{"stage": "performing"}, {"stage": "ended"}, {"assignment_id": "asg_9"}])
def test_an_entry_of_an_earlier_release_that_contradicts_itself_is_damaged(
    tmp_path: Path, change: dict[str, str]
) -> None:
    journal = Journal(tmp_path)
    journal.write(ENTRY)
    (tmp_path / FILE).write_text(json.dumps({**written_by_an_earlier_release(tmp_path), **change}))
    assert journal.load() == []
    assert journal.damaged_assignments() == {"asg_1"}


def test_an_entry_of_an_earlier_release_is_read_so_that_an_upgrade_loses_no_run(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.write(ENTRY)
    (tmp_path / FILE).write_text(json.dumps(written_by_an_earlier_release(tmp_path)))
    assert journal.load() == [ENTRY]


@pytest.mark.parametrize(
    "change", [{"stage": "accepted"}, {"gate_token": "h"}, {"container_id": "c2"}, {"fencing_token": 8}]
)
def test_an_entry_that_was_edited_is_damaged(tmp_path: Path, change: dict[str, object]) -> None:
    journal = Journal(tmp_path)
    journal.write(ENTRY)
    fields = json.loads((tmp_path / FILE).read_text())
    (tmp_path / FILE).write_text(json.dumps({**fields, **change}))
    with structlog.testing.capture_logs() as logs:
        assert journal.load() == []
    [said] = [each for each in logs if each["event"] == "journal.damaged"]
    assert "checksum" in said["error"]
    assert journal.damaged_assignments() == {"asg_1"}


def test_a_flipped_bit_or_a_missing_end_anywhere_in_an_entry_is_found(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.write(ENTRY)
    whole = (tmp_path / FILE).read_bytes()
    for place in range(len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 1
        for damage in (bytes(flipped), whole[:place]):
            (tmp_path / FILE).parent.mkdir(exist_ok=True)
            (tmp_path / FILE).write_bytes(damage)
            # A changed space between two fields is no change of any of them.
            assert journal.load() in ([], [ENTRY])


def written_by_an_earlier_release(folder: Path) -> dict[str, object]:
    fields = json.loads((folder / FILE).read_text())
    for newer in ("sha256", "engine_id", "preamble_sha256"):
        del fields[newer]
    return {**fields, "format": 1}
