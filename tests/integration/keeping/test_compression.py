"""Output of runs that are over is compressed in place; nobody who reads it notices."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from control_plane import clock
from control_plane.keeping.compression import Compression, InPlace
from control_plane.runs import late
from control_plane.storage import finished_output, seekable
from control_plane.storage.finished_output import compressed_path
from control_plane.storage.tables import audit_events, late_evidence
from interlock.v1 import run_pb2
from tests.integration.keeping.installations import Past

LINES = b"".join(b"line %d of the plan\n" % number for number in range(60_000))
DAY_S = 86_400


async def test_an_output_that_is_old_enough_is_compressed_and_reads_the_same_from_any_byte(
    past: Past,
) -> None:
    old = await past.run(LINES, finished_at=clock.now_us() - 2 * DAY_S * 1_000_000)
    young = await past.run(LINES)

    assert await Compression(past.db, past.outputs, InPlace(past.outputs), after_s=DAY_S).round() == 1

    assert not past.outputs.path(old).exists()
    assert compressed_path(past.outputs.path(old)).stat().st_size < len(LINES) / 5
    assert past.outputs.path(young).exists()
    for offset in (0, 1, seekable.FRAME_BYTES - 1, seekable.FRAME_BYTES, len(LINES) - 1):
        assert await read(past, old, offset) == LINES[offset:]
    assert await past.outputs.read(old, len(LINES), 10) == b""
    assert await past.outputs.size_stored(old) == len(LINES)


async def test_it_is_recorded_once_with_both_lengths(past: Past) -> None:
    run_id = await past.run(LINES)
    compression = Compression(past.db, past.outputs, InPlace(past.outputs), after_s=0)

    assert [await compression.round(), await compression.round()] == [1, 0]

    wanted = sa.select(audit_events).where(audit_events.c.action == "run.output_compressed")
    events = await past.db.read(lambda tx: tx.execute(wanted).all())
    compressed_bytes = compressed_path(past.outputs.path(run_id)).stat().st_size
    assert [event.resource_id for event in events] == [run_id]
    assert events[0].details == f'{{"compressed_bytes": {compressed_bytes}, "size_bytes": {len(LINES)}}}'


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_who_has_the_old_file_open_reads_on_in_it(past: Past) -> None:
    run_id = await past.run(LINES)
    with finished_output.opened(past.outputs.path(run_id)) as stored:
        assert stored is not None
        blocks = stored.blocks()
        # More than one read of the file: the first before, the others after it has gone.
        first = next(blocks)
        await Compression(past.db, past.outputs, InPlace(past.outputs), after_s=0).round()
        assert first + b"".join(blocks) == LINES


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("damage", [LINES[:-1], LINES[:-1] + b"?", LINES + b"more\n"])
async def test_an_output_that_is_not_the_one_on_record_is_left_alone(past: Past, damage: bytes) -> None:
    run_id = await past.run(damage, recorded=LINES)

    assert await Compression(past.db, past.outputs, InPlace(past.outputs), after_s=0).round() == 0

    assert [path.read_bytes() for path in past.outputs.path(run_id).parent.iterdir()] == [damage]


async def test_what_an_abandoned_runs_runner_may_still_write_to_is_left_alone(past: Past) -> None:
    run_id = await past.run(LINES, state="FAILED", failure=run_pb2.RUN_FAILURE_ABANDONED)
    compression = Compression(past.db, past.outputs, InPlace(past.outputs), after_s=0)
    assert await compression.round() == 0

    late_lines = LINES + b"and so it ended\n"
    past.write(run_id, late_lines)
    await past.db.write(lambda tx: late.note_return(tx, run_id))
    assert await compression.round() == 0

    digest = hashlib.sha256(late_lines).hexdigest()
    reported = sa.update(late_evidence).values(
        reported_at=1, whole_output_size_bytes=len(late_lines), whole_output_sha256=digest
    )
    await past.db.write(lambda tx: tx.execute(reported))
    assert await compression.round() == 1
    assert await read(past, run_id, 0) == late_lines


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("step", ["written", "renamed"])
async def test_a_crash_in_the_middle_is_made_good_by_the_next_round(past: Past, step: str) -> None:
    run_id = await past.run(LINES)
    crash_at(step, past.outputs.path(run_id), LINES)
    assert await read(past, run_id, 0) == LINES

    assert await Compression(past.db, past.outputs, InPlace(past.outputs), after_s=0).round() == 1

    path = past.outputs.path(run_id)
    assert list(path.parent.iterdir()) == [compressed_path(path)]
    assert await read(past, run_id, 0) == LINES


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_damaged_compressed_output_ends_where_it_is_damaged(past: Past) -> None:
    run_id = await past.run(LINES)
    await Compression(past.db, past.outputs, InPlace(past.outputs), after_s=0).round()
    path = compressed_path(past.outputs.path(run_id))
    whole = bytearray(path.read_bytes())
    with path.open("rb") as file:
        second_frame = seekable.read_table(file.fileno()).starts[1]
    whole[second_frame + 100] ^= 1
    path.write_bytes(whole)

    assert await read(past, run_id, 0) == LINES[: seekable.FRAME_BYTES]


async def read(past: Past, run_id: str, offset: int) -> bytes:
    parts = []
    while data := await past.outputs.read(run_id, offset, 1 << 18):
        parts.append(data)
        offset += len(data)
    return b"".join(parts)


def crash_at(step: str, path: Path, content: bytes) -> None:
    """A process that is gone right after it has written the draft, or put it in place."""
    before = {
        "written": "pathlib.Path.rename",
        "renamed": "control_plane.storage.finished_output.sync_folder",
    }[step]
    script = (
        "import os, pathlib, control_plane.storage.finished_output as it\n"
        f"{before.replace('control_plane.storage.finished_output', 'it')} = lambda *_: os._exit(9)\n"
        f"it.compress(pathlib.Path({str(path)!r}), size_bytes={len(content)}, "
        f"sha256={hashlib.sha256(content).hexdigest()!r})\n"
    )
    done = subprocess.run([sys.executable, "-c", script], env=dict(os.environ), check=False)
    assert done.returncode == 9
