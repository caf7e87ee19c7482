"""What a backup, a restore or a check came to, for people and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is not as it was recorded. `id`: the run's, the archive's digest, or the part's name."""

    kind: str  # "output", "archive", "audit", "database", "backup"
    id: str
    problem: str
    # Of a backup: it was so already when that was made.
    is_old: bool = False


@dataclass(slots=True)
class Report:
    """Counts what was seen."""

    place: str
    outputs: int = 0
    output_bytes: int = 0
    archives: int = 0
    archive_bytes: int = 0
    audit_events: int = 0
    audit_unsealed: int = 0
    audit_head: str = ""
    faults: list[Fault] = field(default_factory=list)
    # What is left to do, in sentences.
    notes: list[str] = field(default_factory=list)

    @property
    def intact(self) -> bool:
        return not self.faults

    def count(self, kind: str, size_bytes: int) -> None:
        """Of an output or an archive that was seen; its bytes before compression."""
        if kind == "output":
            self.outputs += 1
            self.output_bytes += size_bytes
        else:
            self.archives += 1
            self.archive_bytes += size_bytes

    def as_dict(self) -> dict[str, Any]:
        return {"intact": self.intact, **asdict(self)}

    def lines(self) -> Iterator[str]:
        for fault in self.faults:
            since = " (already when the backup was made)" if fault.is_old else ""
            yield f"damaged: {fault.kind} {fault.id}: {fault.problem}{since}"
        yield f"outputs: {self.outputs}, {_mib(self.output_bytes)}; archives: {self.archives}, {_mib(self.archive_bytes)}"
        if self.audit_head:
            yield f"audit events: {self.audit_events}, {self.audit_unsealed} not sealed yet; head {self.audit_head}"
        yield from self.notes


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:.1f} MiB"
