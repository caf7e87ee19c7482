"""An engine on a real OPA, and short ways to load a policy and to ask."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from control_plane.policies.combine import PolicyRef
from control_plane.policies.decisions import AccessDecision, TaskDecision
from control_plane.policies.engine import LoadedPolicy, PolicyEngine
from control_plane.policies.inputs import Document, RequestInfo, SessionInfo, StackInfo
from control_plane.policies.opa import SupervisedOpa
from policies.workbench import library
from policies.workbench.compiler import Compiler
from policies.workbench.kinds import Kind

REQUEST = RequestInfo(remote_ip="192.0.2.1", timestamp_ns=1_768_388_400_000_000_000)
ANN = SessionInfo(login="ann", name="Ann", teams=("web",))
ADMIN = SessionInfo(login="root", name="Root", admin=True)
STACK = StackInfo(id="network", name="Network", labels=("production",))

ALLOW_ALL = "package spacelift\n\nwrite := true\n"
DENY_NOTHING = 'package spacelift\n\ndeny contains "never" if request.command == "never"\n'

SANITIZER_KEY = "0123456789abcdef"

_numbers = itertools.count(1)


class Desk:
    """Loads policies into an engine and asks it."""

    def __init__(self, engine: PolicyEngine, compiler: Compiler) -> None:
        self.engine = engine
        self._compiler = compiler

    async def compiled(self, kind: Kind, text: str, policy_id: str, revision: int = 1) -> LoadedPolicy:
        checked = await self._compiler.compile(kind, text, "policy.rego")
        return LoadedPolicy(policy_id, revision, checked.module)

    async def load(self, kind: Kind, text: str, policy_id: str = "", revision: int = 1) -> PolicyRef:
        policy_id = policy_id or f"policy-{next(_numbers)}"
        await self.engine.put(await self.compiled(kind, text, policy_id, revision))
        return ref(policy_id, revision)

    async def task(
        self,
        *policies: PolicyRef,
        command: str = "ls",
        session: SessionInfo = ADMIN,
        stack: StackInfo = STACK,
    ) -> TaskDecision:
        """Of these task policies, by an admin unless told otherwise, so that no access policy is needed."""
        return await self.engine.decide_task(REQUEST, session, stack, command, access=(), task=policies)

    async def access(
        self, *policies: PolicyRef, session: SessionInfo = ANN, stack: StackInfo = STACK
    ) -> AccessDecision:
        return await self.engine.decide_access(REQUEST, session, stack, policies)


class House(Desk):
    """A desk whose engine has an OPA of its own; `opa` is that child."""

    def __init__(self, engine: PolicyEngine, opa: SupervisedOpa, compiler: Compiler) -> None:
        super().__init__(engine, compiler)
        self.opa = opa

    async def freeze(self) -> int:
        """Stop the child in the middle of whatever it does; it neither answers nor dies."""
        pid = self.opa.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        while not _is_stopped(pid):
            await asyncio.sleep(0)
        return pid

    @classmethod
    @contextlib.asynccontextmanager
    async def opened(
        cls,
        opa_path: Path,
        compiler: Compiler,
        *,
        policies: Sequence[LoadedPolicy] = (),
        deadline_s: float = 1.5,
        memory_bytes: int = 1 << 30,
    ) -> AsyncIterator[House]:
        opa = SupervisedOpa(opa_path, deadline_s=deadline_s, memory_bytes=memory_bytes)
        engine = PolicyEngine(
            opa,
            compiler,
            sanitizer_key=SANITIZER_KEY,
            deadline_s=deadline_s,
            examination_memory_bytes=memory_bytes,
        )
        await engine.start(policies)
        try:
            yield cls(engine, opa, compiler)
        finally:
            await engine.stop()


def _is_stopped(pid: int) -> bool:
    threads = Path(f"/proc/{pid}/task").iterdir()
    return all(") T " in (thread / "stat").read_text() for thread in threads)


def ref(policy_id: str, revision: int = 1) -> PolicyRef:
    return PolicyRef(policy_id, f"Policy {policy_id}", revision)


def fits(opa_path: Path, kind: Kind, document: Document, folder: Path) -> bool:
    """Whether the kind's schema takes an input, by OPA's own judgement."""
    (folder / "input.json").write_text(
        json.dumps({"schema": json.loads(library.schema(kind)), "document": document})
    )
    result = subprocess.run(
        [opa_path, "eval", "-f", "raw", "-i", "input.json", "json.match_schema(input.document, input.schema)[0]"],
        cwd=folder, capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    return result.stdout.strip() == "true"
