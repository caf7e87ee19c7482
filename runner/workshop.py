"""What all runs of a runner share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from interlock.v1.runner_service_pb2 import AssignmentRef
from runner.engine import Engine
from runner.journal import Journal
from runner.sources.git import DEFAULT_PROTOCOLS
from runner.warm import WarmPool


@dataclass(frozen=True, kw_only=True)
class Workshop:
    engine: Engine
    journal: Journal
    warm: WarmPool
    runner_id: str
    engine_id: str
    folder: Path
    """The runner's own, for temporary files too."""
    max_spool_bytes: int
    fetch_archive: Callable[[AssignmentRef], AsyncIterator[bytes]]
    """The uploaded source of an assignment, or what its plan left, from the control plane. Raises `SourceUnavailable`."""
    store_plan: Callable[[AssignmentRef, BinaryIO], Awaitable[str]]
    """Keeps what an assignment's plan left, on the control plane; its SHA-256 there. Raises `PlanNotKept`."""
    git_protocols: frozenset[str] = DEFAULT_PROTOCOLS
    """By which repositories are read."""
    status_changed: asyncio.Event = field(default_factory=asyncio.Event)
    """To be set when something changed that decides whether the runner can take work."""
