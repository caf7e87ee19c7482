"""Containers for these tests: started, fed and drained as a runner does it, always removed."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from runner.engine import (
    ContainerExit,
    ContainerId,
    ContainerSpec,
    Engine,
    InputStream,
    Limits,
    OutputStream,
)
from runner.phases import PhaseEvent, PhaseSplitter, new_nonce
from runner.script import RunScript, gate_line, new_end_line, new_gate_token
from runner.sources.workspace import Workspace

RUNNER = {"dev.interlock.runner": "rnr_tests"}


@dataclass
class Running:
    """One container that waits for its script, with what its run will need."""

    engine: Engine
    id: ContainerId
    output: OutputStream
    input: InputStream
    end_line: str
    nonce: str = field(default_factory=new_nonce)
    gate_token: str = field(default_factory=new_gate_token)

    async def feed(self, script: RunScript) -> None:
        with Workspace.empty() as workspace:
            await self.engine.put_archive(self.id, workspace.archive())
        text = script.render(end_line=self.end_line, nonce=self.nonce, gate_token=self.gate_token)
        await self.input.feed(text)

    async def go(self) -> None:
        await self.input.feed(gate_line(self.gate_token))

    async def until(self, awaited: bytes) -> bytes:
        """All raw output up to and with `awaited`."""
        output = b""
        while awaited not in output:
            data = await self.output.read()
            assert data, output
            output += data
        return output

    async def rest(self) -> tuple[bytes, ContainerExit]:
        return await drain(self.output), await self.engine.wait(self.id)

    def split(self, raw: bytes) -> tuple[bytes, list[PhaseEvent]]:
        splitter = PhaseSplitter(self.nonce)
        pieces = splitter.feed(raw) + splitter.finish()
        output = b"".join(piece for piece in pieces if isinstance(piece, bytes))
        return output, [piece for piece in pieces if not isinstance(piece, bytes)]


@dataclass(frozen=True)
class Done:
    output: bytes
    events: list[PhaseEvent]
    exit: ContainerExit


@asynccontextmanager
async def started(
    engine: Engine,
    image: str,
    *,
    name: str = "",
    labels: Mapping[str, str] | None = None,
    limits: Limits | None = None,
    network_mode: str = "none",
    mounts: tuple[str, ...] = (),
) -> AsyncIterator[Running]:
    end_line = new_end_line()
    spec = ContainerSpec(
        name=name or f"interlock-test-{new_nonce()}",
        image=image,
        end_line=end_line,
        labels=RUNNER | dict(labels or {}),
        limits=limits or Limits(),
        network_mode=network_mode,
        mounts=mounts,
    )
    container = await engine.create(spec)
    try:
        output, stdin = await engine.attach_output(container), await engine.attach_input(container)
        try:
            await engine.start(container)
            yield Running(engine, container, output, stdin, end_line)
        finally:
            await output.close()
            await stdin.close()
    finally:
        await engine.remove(container)


async def perform(engine: Engine, image: str, script: RunScript, limits: Limits | None = None) -> Done:
    """A whole run, its gate opened at once."""
    async with started(engine, image, limits=limits) as running:
        await running.feed(script)
        await running.go()
        raw, container_exit = await running.rest()
        return Done(*running.split(raw), container_exit)


async def drain(stream: OutputStream) -> bytes:
    parts = []
    while data := await stream.read():
        parts.append(data)
    return b"".join(parts)
