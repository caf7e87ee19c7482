"""Pools, their tokens and their runners as values. Times are Unix microseconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from interlock.v1.pool_pb2 import ContainerOptions

# Made with the database; stacks that name no pool use it.
PUBLIC_POOL_ID: Final = "public"


@dataclass(frozen=True, slots=True)
class Pool:
    id: str
    name: str
    public: bool
    labels: tuple[str, ...]
    container: ContainerOptions
    created_at: int


@dataclass(frozen=True, slots=True)
class PoolToken:
    """Never with its secret."""

    id: str
    pool_id: str
    name: str
    created_at: int
    revoked_at: int | None = None
    last_used_at: int | None = None


@dataclass(frozen=True, slots=True)
class KnownRunner:
    """A runner that was connected once, as it said hello the last time."""

    id: str
    pool_id: str
    name: str
    version: str
    capacity: int
    boot_id: str
    machine_id: str
    connected_at: int
    last_seen_at: int
