"""`interlock admin verify` on an installation: whatever was changed of what is stored is found and named."""

from __future__ import annotations

import pytest

from control_plane.keeping.report import Fault
from tests.integration.audit.house import House
from tests.integration.keeping.installations import Installation


def test_an_installation_that_is_whole_is_intact(live: Installation) -> None:
    report = live.verify()
    assert (report.faults, report.outputs, report.archives) == ([], 5, 2)
    assert report.audit_head.startswith(f"{report.audit_events}:")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("which", ["compressed", "plain", "abandoned", "returning", "performing"])
def test_one_changed_byte_names_the_run(live: Installation, which: str) -> None:
    path = live.path(which)
    content = bytearray(path.read_bytes())
    content[50] ^= 1
    path.write_bytes(content)
    assert [(fault.kind, fault.id) for fault in live.verify().faults] == [("output", live.runs[which])]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("which", ["compressed", "plain", "abandoned", "returning", "performing"])
def test_an_output_that_was_cut_off_or_is_gone_names_the_run(live: Installation, which: str) -> None:
    path = live.path(which)
    content = path.read_bytes()
    path.write_bytes(content[:90])
    assert [fault.id for fault in live.verify().faults] == [live.runs[which]]
    path.unlink()
    [fault] = live.verify().faults
    assert (fault.id, fault.problem.split(",")[0]) == (live.runs[which], "nothing is stored")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("which", ["plain", "silent", "abandoned"])
def test_an_output_that_is_longer_than_its_record_names_the_run(live: Installation, which: str) -> None:
    live.path(which).parent.mkdir(exist_ok=True)
    with live.path(which).open("ab") as output:
        output.write(b"more\n")
    [fault] = live.verify().faults
    assert (fault.id, "on record" in fault.problem) == (live.runs[which], True)


def test_a_changed_and_a_missing_archive_are_named(live: Installation) -> None:
    names = sorted(path.name for path in live.ground.archives.iterdir())
    (live.ground.archives / names[0]).write_bytes(b"another archive")
    (live.ground.archives / names[1]).unlink()
    assert sorted((fault.kind, fault.id) for fault in live.verify().faults) == [
        ("archive", names[0]),
        ("archive", names[1]),
    ]


async def test_a_changed_audit_event_is_found(live: Installation) -> None:
    await House(live.past.db).tamper("UPDATE audit_events SET caller_login = 'eve'")
    assert [fault.kind for fault in live.verify().faults] == ["audit"]


def test_what_is_damaged_is_said_line_by_line(live: Installation) -> None:
    live.path("plain").unlink()
    report = live.verify()
    assert report.faults == [
        Fault("output", live.runs["plain"], "nothing is stored, 50000 bytes are on record")
    ]
    assert next(report.lines()) == (
        f"damaged: output {live.runs['plain']}: nothing is stored, 50000 bytes are on record"
    )
