"""The audit chain, checked as `interlock audit verify` does, without a server."""

from __future__ import annotations

from argparse import ArgumentTypeError

from control_plane.audit import rules
from control_plane.audit.chain import Head
from control_plane.keeping.progress import Progress
from control_plane.keeping.reading import Read
from control_plane.keeping.report import Fault, Report


def check(read: Read, known_head: Head | None, report: Report, progress: Progress) -> None:
    """Adds what it finds to the report."""
    progress.begin("audit events")
    found = rules.verify_by(read, known_head, lambda events: progress.add(0, items=events))
    progress.end()
    report.audit_events, report.audit_unsealed = found.verified, found.unsealed
    report.audit_head = text(found.head)
    if found.fault is not None:
        report.faults.append(Fault("audit", f"event {found.fault.sequence}", found.fault.problem))


def text(head: Head) -> str:
    return f"{head.sequence}:{head.hash}"


def head_of(text_: str) -> Head | None:
    """None where there is nothing to compare with. Raises ArgumentTypeError where it is no head."""
    if not text_:
        return None
    sequence, _, digest = text_.partition(":")
    if not sequence.isdigit() or not digest:
        raise ArgumentTypeError(f"{text_!r}: write SEQUENCE:HASH, as an earlier verify printed it")
    return Head(int(sequence), digest) if int(sequence) else None
