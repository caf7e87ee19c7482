"""Output of one assignment as a part of its run's: a tracked run's apply writes behind what its plan wrote."""

from __future__ import annotations

import hashlib

from control_plane.storage.outputs import READ_BLOCK_BYTES, Outputs, StoredOutput


async def sha256_from(outputs: Outputs, run_id: str, start: int, stored: StoredOutput) -> str:
    """SHA-256 of what is stored from byte `start` on, lower-case hex."""
    if not start:
        return stored.sha256
    digest = hashlib.sha256()
    position = start
    while position < stored.size_bytes:
        block = await outputs.read(run_id, position, min(READ_BLOCK_BYTES, stored.size_bytes - position))
        if not block:
            break
        digest.update(block)
        position += len(block)
    return digest.hexdigest()
