"""The stacks package of one control plane, on a real database, with callers whose rights a test sets by hand."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from control_plane import clock, errors, ids
from control_plane.identity.principal import Principal
from control_plane.keys import MasterKey, Sealer
from control_plane.paging import PageTokens
from control_plane.queue import lanes
from control_plane.stacks import snapshot
from control_plane.stacks.access import Access
from control_plane.stacks.environment import Environments
from control_plane.stacks.git_source import GitRemotes
from control_plane.stacks.git_url import GitRules
from control_plane.stacks.locks import Locks
from control_plane.stacks.pinning import SourcePins
from control_plane.stacks.rules import Stacks
from control_plane.stacks.servicer import StackServicer
from control_plane.stacks.snapshot import StackSnapshot
from control_plane.stacks.upload import Uploads
from control_plane.storage import tables
from control_plane.storage.archives import ArchiveStore
from control_plane.storage.database import Database
from interlock.v1 import stack_pb2
from interlock.v1 import stack_service_pb2 as rpc

ADMIN = Principal(id="key_admin", login="ada", name="Ada", admin=True)
WRITER = Principal(id="key_writer", login="will", name="Will", teams=("ops",))
OTHER_WRITER = Principal(id="key_other", login="olga", name="Olga")
READER = Principal(id="key_reader", login="rita", name="Rita")
STRANGER = Principal(id="key_stranger", login="sam", name="Sam")

MASTER = MasterKey(b"k" * 32)
RULES = GitRules(allow_http=True, allow_file=True)
MAX_UPLOAD_BYTES = 4 * 1024 * 1024


class Grants:
    """Access as a table: what policies would say."""

    def __init__(self) -> None:
        self.writers = {WRITER.id, OTHER_WRITER.id}
        self.readers = {READER.id}
        # Stacks that only admins see.
        self.hidden: set[str] = set()

    async def require_read(self, principal: Principal, stack: StackSnapshot) -> None:
        if stack.id in self.hidden or principal.id not in self.writers | self.readers:
            raise errors.NotFound("stack", stack.id)

    async def require_write(self, principal: Principal, stack: StackSnapshot) -> None:
        await self.require_read(principal, stack)
        if principal.id not in self.writers:
            raise errors.NotAllowed(f"{principal.login} may read stack {stack.id!r}, not write to it")

    async def readable(self, principal: Principal, stacks: Sequence[StackSnapshot]) -> list[bool]:
        known = principal.id in self.writers | self.readers
        return [known and stack.id not in self.hidden for stack in stacks]


@dataclass
class House:
    db: Database
    folder: Path
    grants: Grants = field(default_factory=Grants)
    woken: list[str] = field(default_factory=list)
    sealer: Sealer = field(default_factory=lambda: Sealer(MASTER))

    def __post_init__(self) -> None:
        access = Access(self.db, self.grants)
        self.archives = ArchiveStore(self.folder)
        self.archives.open()
        self.stacks = Stacks(self.db, access, self.sealer, git_rules=RULES, on_change=self.woken.append)
        self.locks = Locks(self.db, access, on_change=self.woken.append)
        self.environments = Environments(self.db, access, self.sealer)
        self.uploads = Uploads(self.db, access, self.archives, max_bytes=MAX_UPLOAD_BYTES)
        self.pins = SourcePins(self.sealer, GitRemotes(RULES, timeout_s=5))
        self.servicer = StackServicer(
            self.stacks, self.locks, self.environments, self.uploads, PageTokens(MASTER)
        )

    async def create(self, stack_id: str = "network", **fields: Any) -> StackSnapshot:
        return await self.stacks.create(ADMIN, rpc.CreateStackRequest(stack=a_stack(stack_id, **fields)))

    async def update(self, *paths: str, **fields: Any) -> StackSnapshot:
        return await self.stacks.update(ADMIN, stack_pb2.Stack(**{"id": "network", **fields}), paths)

    async def load(self, stack_id: str = "network") -> StackSnapshot:
        return await self.db.read(lambda tx: snapshot.load_any(tx, stack_id))

    async def add_run(self, state: str, stack_id: str = "network", **columns: object) -> str:
        """A run in this state, its slot and queue as the scheduler would leave them."""
        run_id = ids.new_id("run")
        await self.db.write(lambda tx: _insert_run(tx, run_id, state, stack_id, columns))
        return run_id

    async def upload(
        self, content: bytes, *, stack_id: str = "network", by: Principal = WRITER, **header: Any
    ) -> StackSnapshot:
        return await self.uploads.store(by, upload_parts(content, stack_id, **header))

    async def audited(self, action: str) -> list[sa.Row[Any]]:
        statement = (
            sa.select(tables.audit_events)
            .where(tables.audit_events.c.action == action)
            .order_by(tables.audit_events.c.id)
        )
        return list(await self.db.read(lambda tx: tx.execute(statement).all()))

    async def count(self, table: sa.Table) -> int:
        return await self.db.read(
            lambda tx: int(tx.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())
        )


def a_stack(stack_id: str = "network", **fields: Any) -> stack_pb2.Stack:
    defaults = {"name": stack_id or "A name", "image": "busybox", "tool": stack_pb2.TOOL_TERRAFORM}
    return stack_pb2.Stack(**{"id": stack_id, **defaults, **fields})


def git_source(url: str, ref: str = "main", **credential: str) -> stack_pb2.Source:
    git = stack_pb2.GitSource(repository_url=url, ref=ref)
    if credential:
        git.credential.CopyFrom(stack_pb2.GitCredential(**credential))
    return stack_pb2.Source(git=git)


def a_tar(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name.replace("__", "/"))
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


async def upload_parts(
    content: bytes, stack_id: str, *, chunk_bytes: int = 65536, **header: Any
) -> AsyncIterator[rpc.UploadSourceRequest]:
    announced = {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
    yield rpc.UploadSourceRequest(header=rpc.UploadHeader(stack_id=stack_id, **{**announced, **header}))
    for start in range(0, len(content), chunk_bytes):
        yield rpc.UploadSourceRequest(chunk=content[start : start + chunk_bytes])


def _insert_run(
    tx: sa.Connection, run_id: str, state: str, stack_id: str, columns: dict[str, object]
) -> None:
    now = clock.now_us()
    values = {
        "id": run_id,
        "stack_id": stack_id,
        "type": "TASK",
        "state": state,
        "command": "true",
        "skip_initialization": False,
        "creator_id": WRITER.id,
        "creator_login": WRITER.login,
        "creator": WRITER.to_caller().SerializeToString(),
        "pool_id": "public",
        "decision_id": "dec_1",
        "created_at": now,
        "updated_at": now,
    }
    tx.execute(sa.insert(tables.runs), values | columns)
    slot = sa.update(tables.slots).where(tables.slots.c.stack_id == stack_id)
    if state == "QUEUED":
        lanes.join(tx, stack_id, WRITER.id, WRITER.login, ())
    elif state in {"READY", "PREPARING", "INITIALIZING", "PERFORMING"}:
        tx.execute(slot.values(holder_run_id=run_id, fence=tables.slots.c.fence + 1))
