"""Everything a run needs before its script can start: journal, masker, source, image and container, side by side."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from interlock.v1.runner_service_pb2 import AssignmentRef, Job
from runner import environment, images, job_source, labels, script
from runner.container import RunContainer
from runner.engine import ContainerSpec, OutputStream
from runner.errors import ContainerGone, EngineRefused, RunnerError
from runner.groups import first_of
from runner.masking import Masker
from runner.page import Page
from runner.preamble import Preamble
from runner.report import Report
from runner.sources.workspace import Workspace
from runner.workshop import Workshop


@dataclass(frozen=True)
class Prepared:
    """A started container with its workspace in it, waiting for its script."""

    output: OutputStream
    masker: Masker
    preamble: bytes
    script: bytes


@dataclass(kw_only=True)
class Preparation:
    job: Job
    assignment: AssignmentRef
    workshop: Workshop
    page: Page
    report: Report
    container: RunContainer
    secrets: list[bytes]

    async def run(self) -> Prepared:
        """Raises the first `RunnerError` of any part; the others are then given up.

        A warm container that dies before it has its script costs time, and nothing else.
        """
        preamble = Preamble(self.report)
        mounted_files = job_source.mounted_files(self.job)
        spec = self._spec()
        with first_of(RunnerError):
            async with asyncio.TaskGroup() as tasks:
                accepting = tasks.create_task(self._accept())
                masker = tasks.create_task(self._masker(preamble))
                workspace = tasks.create_task(self._workspace())
                container = tasks.create_task(self._container(spec, preamble, accepting))
                # What no shell can be given is refused before there is a container.
                text = self._script(spec.end_line)
        output = container.result()
        with workspace.result() as files:
            if not await self._equipped(files, mounted_files, preamble):
                output = await self.container.make(spec)
                await self._equipped(files, mounted_files, preamble)
        if self.container.end_line != spec.end_line:
            text = self._script(self.container.end_line)
        return Prepared(output, masker.result(), preamble.text, text)

    @property
    def _name(self) -> str:
        return labels.name_of_run(self.assignment.run_id, self.assignment.fencing_token)

    async def _accept(self) -> None:
        await self.page.accept()
        self.report.accepted = True
        self.report.change()

    async def _masker(self, preamble: Preamble) -> Masker:
        masker = await asyncio.to_thread(Masker, self.secrets)
        preamble.mask_with(masker)
        return masker

    async def _workspace(self) -> Workspace:
        return await job_source.workspace_of(self.job, self.assignment, self.workshop)

    async def _container(
        self, spec: ContainerSpec, preamble: Preamble, accepting: asyncio.Task[None]
    ) -> OutputStream:
        engine, warm = self.workshop.engine, self.workshop.warm
        policy = environment.pull_policy(self.job)
        image_id = await images.ensure_image(engine, self.job.image, policy, preamble.say)
        if (waiting := warm.take(spec, image_id)) is not None:
            return self.container.take(waiting)
        # After a crash nobody would know whose a container is that no journal speaks of, and dare to remove it.
        await accepting
        return await self.container.make(spec)

    def _script(self, end_line: str) -> bytes:
        return environment.script_of(self.job, self.assignment).render(
            end_line=end_line,
            nonce=self.page.entry.nonce,
            gate_token=self.page.entry.gate_token,
        )

    async def _equipped(self, files: Workspace, mounted_files: bytes, preamble: Preamble) -> bool:
        """False when the container was a warm one and died, which nobody sees before it is asked to do something."""
        warm = self.container.warm
        try:
            await asyncio.gather(
                self.page.start(self.container.id, preamble.text),
                self.container.claim(self._name),
                self._put(files, mounted_files),
            )
        except (ContainerGone, EngineRefused):
            if warm is None:
                raise
            return False
        return warm is None or warm.is_alive

    async def _put(self, files: Workspace, mounted_files: bytes) -> None:
        # An empty workspace is in a warm container already, and unpacking one takes the engine 45 ms.
        if not files.is_empty or self.container.warm is None:
            await self.container.put(files.archive())
        if self.job.files:
            await self.container.put(mounted_files)

    def _spec(self) -> ContainerSpec:
        return environment.spec_of(
            self.job,
            name=self._name,
            end_line=script.new_end_line(),
            labels=labels.of_run(
                runner_id=self.workshop.runner_id,
                run_id=self.assignment.run_id,
                assignment_id=self.assignment.assignment_id,
                fence=self.assignment.fencing_token,
            ),
        )
