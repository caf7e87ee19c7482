"""Five bugs that break the promises of this design in the ways in which they are usually broken. Each is a few
replacements in the code, and says who is to find it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

Finder = Literal["soak", "model"]

_REACH: Final = "control_plane/runs/reach.py"
_DESK: Final = "control_plane/runs/desk.py"
_BEHIND_THE_GATE: Final = """\
        if RunState(run.state).has_passed_gate:
            continue
"""


@dataclass(frozen=True)
class Edit:
    """`old` stands once in the file."""

    file: str
    old: str
    new: str

    def apply(self, root: Path) -> None:
        path = root / self.file
        text = path.read_text()
        if text.count(self.old) != 1:
            raise ValueError(f"{self.file} has {text.count(self.old)} times, not once: {self.old!r}")
        path.write_text(text.replace(self.old, self.new))


@dataclass(frozen=True)
class Bug:
    name: str
    what: str
    finder: Finder
    edits: Sequence[Edit]


BUGS: Final = [
    Bug(
        "again",
        "a performing run whose runner's lease is over is queued and performed again",
        "soak",
        [
            Edit(
                "control_plane/runs/states.py",
                "    RunState.PERFORMING: frozenset({RunState.FINISHED, RunState.FAILED}),",
                "    RunState.PERFORMING: frozenset({RunState.FINISHED, RunState.FAILED, RunState.QUEUED}),",
            ),
            Edit(
                _REACH,
                _BEHIND_THE_GATE,
                """\
        if RunState(run.state).has_passed_gate:
            moves.give_back(connection, run, "its lease is over")
            touched.append(run)
            continue
""",
            ),
        ],
    ),
    Bug(
        "undurable",
        "a result is acknowledged before its output is durable, which it becomes every five seconds",
        "soak",
        [
            Edit(_DESK, "            await outputs.flush(self._ref.run_id)\n", "            pass\n"),
            Edit(
                _DESK,
                "stored = StoredOutput(output.durable_bytes, output.durable_sha256)",
                "stored = StoredOutput(output.size_bytes, report.output_sha256)",
            ),
            Edit("control_plane/storage/output_files.py", "FLUSH_INTERVAL_S = 0.05", "FLUSH_INTERVAL_S = 5.0"),
        ],
    ),
    Bug(
        "freed",
        "the slot of a performing run is freed when its runner's lease is over",
        "soak",
        [
            Edit(
                _REACH,
                _BEHIND_THE_GATE,
                """\
        if RunState(run.state).has_passed_gate:
            lost = run_pb2.RUN_FAILURE_RUNNER_LOST
            moves.end(connection, run, RunState.FAILED, "its lease is over", failure=lost)
            touched.append(run)
            continue
""",
            ),
        ],
    ),
    Bug(
        "stale",
        "a report under a stale fencing token, or an assignment that is over, is taken",
        "model",
        [
            Edit(
                "control_plane/runs/assignments.py",
                """\
_CURRENT = sa.select(runs).where(
    runs.c.id == sa.bindparam("run_id"),
    runs.c.assignment_id == sa.bindparam("assignment_id"),
    runs.c.fence == sa.bindparam("fence"),
    runs.c.runner_id == sa.bindparam("runner_id"),
)
""",
                '_CURRENT = sa.select(runs).where(runs.c.id == sa.bindparam("run_id"))\n',
            ),
        ],
    ),
    Bug(
        "doubled",
        "a runner that comes back sends again what it still has, and bytes that are there already are stored once more",
        "soak",
        [
            Edit(
                "runner/report.py",
                """\
        self.output_acknowledged(acknowledged)
        self._go_back(acknowledged)
""",
                """\
        self.output_acknowledged(acknowledged)
        self._go_back(self.spool.freed)
""",
            ),
            Edit("control_plane/storage/outputs.py", "        data = data[len(known) :]\n", ""),
        ],
    ),
]  # fmt: skip
