"""What the runner holds, on disk: one small JSON file for each assignment, replaced whole or not at all.

Holds no secret of a stack: nonce and gate token are this run's own, and the job comes again with the welcome.
Each carries its own SHA-256. One that was cut off or changed is set aside with its folder and never guessed at.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

import structlog

from runner.durable import sync_folder, write_durably
from runner.errors import JournalDamaged

log = structlog.get_logger(__name__)

_FILE = "journal.json"
# 1, of earlier releases, has no checksum.
_FORMAT = 2
_SUM = "sha256"


class Stage(StrEnum):
    """How far an assignment has come, in this order."""

    ACCEPTED = "accepted"
    STARTED = "started"
    """The container is there. Whether it got its script, its output tells."""
    GATE_PASSED = "gate_passed"
    """`go` was received. Written before the container gets its gate token: nothing stops the run any more."""
    ENDED = "ended"


class Outcome(StrEnum):
    """How a run ended here; the protocol's RunOutcome."""

    EXITED = "exited"
    STOPPED = "stopped"
    PREPARATION_FAILED = "preparation_failed"
    INITIALIZATION_FAILED = "initialization_failed"
    TIMED_OUT = "timed_out"
    CONTAINER_LOST = "container_lost"
    PLAN_FAILED = "plan_failed"
    PLANNED = "planned"


@dataclass(frozen=True, kw_only=True)
class Result:
    outcome: Outcome
    exit_code: int | None = None
    reason: str = ""
    output_size_bytes: int = 0
    """Of the masked output."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One assignment. Immutable: a step forward is a new entry, written before it is acted upon."""

    run_id: str
    assignment_id: str
    fencing_token: int
    boot_id: str
    """The boot under which the container was made."""
    nonce: str
    gate_token: str
    stage: Stage = Stage.ACCEPTED
    container_id: str = ""
    engine_id: str = ""
    """The container engine's own id; empty in an entry of an earlier release."""
    preamble_sha256: str = ""
    """Of the file beside it with the masked output from before the container; empty where there is none."""
    result: Result | None = None

    @property
    def has_passed_gate(self) -> bool:
        if self.result is not None:
            return self.result.outcome in {Outcome.EXITED, Outcome.CONTAINER_LOST}
        return self.stage is Stage.GATE_PASSED


class Journal:
    """The folder of all assignments. Blocking; every write is durable when it returns."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "assignments"
        self._damaged = folder / "damaged"
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def folder_of(self, assignment_id: str) -> Path:
        """The assignment's own folder, for its journal and its spool."""
        return self._folder / assignment_id

    def write(self, entry: Entry) -> None:
        folder = self.folder_of(entry.assignment_id)
        folder.mkdir(exist_ok=True, mode=0o700)
        fields = {"format": _FORMAT, **asdict(entry)}
        write_durably(folder / _FILE, json.dumps({**fields, _SUM: _sum_of(fields)}, indent=1).encode())
        if entry.stage is Stage.ACCEPTED:
            sync_folder(self._folder)

    def remove(self, assignment_id: str) -> None:
        """Journal first: what a crash leaves of the rest is swept at the next start."""
        folder = self.folder_of(assignment_id)
        (folder / _FILE).unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)

    def load(self) -> list[Entry]:
        """All entries, oldest first. Damaged ones are set aside with an error in the log."""
        return sorted(self._readable(), key=lambda entry: entry.run_id)

    def damaged_assignments(self) -> frozenset[str]:
        """Those set aside, now or before: their containers may perform, so nobody may remove them."""
        if not self._damaged.exists():
            return frozenset()
        return frozenset(path.name.partition("@")[0] for path in self._damaged.iterdir())

    def _readable(self) -> Iterator[Entry]:
        for folder in self._folder.iterdir():
            path = folder / _FILE
            if not path.exists():
                # Never accepted, or removal was cut short.
                shutil.rmtree(folder, ignore_errors=True)
                continue
            try:
                yield _parsed(path.read_bytes(), folder.name)
            except JournalDamaged as error:
                self._set_aside(folder, error)

    def _set_aside(self, folder: Path, error: JournalDamaged) -> None:
        self._damaged.mkdir(exist_ok=True, mode=0o700)
        place = self._damaged / f"{folder.name}@{time.time_ns()}"
        folder.rename(place)
        log.error(
            "journal.damaged",
            assignment_id=folder.name,
            error=error.message,
            moved_to=str(place),
            hint="its container, if there is one, is left alone; remove it and the folder by hand",
        )


def _check(fields: dict[str, object]) -> None:
    written_in = fields["format"]
    if written_in == 1:
        return
    if written_in != _FORMAT:
        raise JournalDamaged("written in a format that this release does not know")
    if fields.pop(_SUM) != _sum_of(fields):
        raise JournalDamaged("its content does not have its checksum: it was edited, or the disk changed it")


def _sum_of(fields: dict[str, object]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def _parsed(text: bytes, assignment_id: str) -> Entry:
    try:
        fields = json.loads(text)
        _check(fields)
        del fields["format"]
        result = fields.pop("result")
        if result is not None:
            result = Result(**{**result, "outcome": Outcome(result["outcome"])})
        entry = Entry(**{**fields, "stage": Stage(fields["stage"]), "result": result})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise JournalDamaged(f"not a journal entry: {error!r}") from error
    if entry.assignment_id != assignment_id or not isinstance(entry.fencing_token, int):
        raise JournalDamaged("not this folder's entry")
    if (entry.stage is Stage.ENDED) != (entry.result is not None):
        raise JournalDamaged("stage and result contradict each other")
    return entry
