"""Three replicas on PostgreSQL and an object store, killed in turn while tasks perform; every watcher gets every byte,
and nothing runs twice. `make demo-ha` starts it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import interlock
from interlock import types
from interlock.client import Client
from scripts import objects, postgres
from scripts.demo import leftovers
from scripts.demo_ha import parts
from scripts.demo_ha.parts import Part, Replica
from scripts.progress import answering

REPLICAS = 3
RUNNERS = 2
WATCHERS_PER_TASK = 3
OBJECTS, FOLDER = "objects", "folder"
_NAMES = {OBJECTS: "an object store", FOLDER: "a shared folder"}
EXIT_INTERRUPTED = 130
# Tasks that are not over by then never will be.
LATE_S = 60


@dataclass(frozen=True)
class Size:
    """How much is shown."""

    tasks: int
    seconds: int
    rounds: int

    @property
    def lines(self) -> int:
        return self.seconds * 100

    @property
    def command(self) -> str:
        """Numbered lines, a hundred a second, so that a byte that is missing or comes twice is seen where it is."""
        ten = 'for _ in 1 2 3 4 5 6 7 8 9 0; do i=$((i+1)); echo "line $i of $INTERLOCK_RUN_ID"; done'
        return f"i=0; while [ $i -lt {self.lines} ]; do {ten}; sleep 0.1; done"

    def output(self, run_id: str) -> bytes:
        return b"".join(b"line %d of %s\n" % (number, run_id.encode()) for number in range(1, self.lines + 1))


class Show:
    """Lines with the time since the start."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self._started:6.1f} s  {text}", flush=True)


@dataclass(eq=False)
class Scene:
    """All that is there while the demonstration plays."""

    show: Show
    replicas: list[Replica]
    runners: list[Part]
    client: Client

    def addresses(self, first: int) -> str:
        """Of all replicas, beginning with this one."""
        turned = self.replicas[first:] + self.replicas[:first]
        return ",".join(replica.address for replica in turned)


async def play(show: Show, scene: Scene, size: Size, image: str) -> bool:
    """True where everything came out as it must."""
    runs = [await _task(scene.client, number, size, image) for number in range(size.tasks)]
    show.say(f"{len(runs)} tasks are created, {size.lines} lines each; {WATCHERS_PER_TASK} watchers on each")
    watching = [
        asyncio.create_task(_watch(scene, run.id, first))
        for run in runs
        for first in range(WATCHERS_PER_TASK)
    ]
    try:
        await asyncio.gather(*(_performing(scene.client, run.id) for run in runs))
        show.say("all tasks perform")
        for number in range(size.rounds):
            await asyncio.sleep(size.seconds / (size.rounds + 1))
            await _kill_and_start(show, scene, scene.replicas[number % REPLICAS])
        async with asyncio.timeout(size.seconds + LATE_S):
            seen = await asyncio.gather(*watching)
    except TimeoutError as error:
        raise parts.PartFailed(f"the tasks have not ended {LATE_S} s after their time") from error
    finally:
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)
    return await _judge(show, scene, size, runs, seen)


async def _kill_and_start(show: Show, scene: Scene, replica: Replica) -> None:
    connected = [runner.count("runner.ready") for runner in scene.runners]
    cut = [runner.count("runner.disconnected") for runner in scene.runners]
    replica.part.kill()
    show.say(f"replica {replica.number} is killed (SIGKILL)")
    began = time.monotonic()
    await replica.start()
    show.say(f"replica {replica.number} serves again, {time.monotonic() - began:.1f} s after its start")
    for runner, before, cuts in zip(scene.runners, connected, cut, strict=True):
        if runner.count("runner.disconnected") > cuts:
            await runner.logged("runner.ready", before + 1)
            show.say(f"{runner.environment['INTERLOCK_RUNNER_NAME']} has gone on at another replica")


async def _task(client: Client, number: int, size: Size, image: str) -> types.Run:
    stack = await client.stacks.create(f"ha-{number}", image=image, tool="custom", pull_policy="never")
    return await client.runs.create_task(stack.id, size.command)


async def _performing(client: Client, run_id: str) -> None:
    async for event in client.runs.follow(run_id, output=False):
        if isinstance(event, types.Run) and event.state == types.RunState.RUN_STATE_PERFORMING:
            return


async def _watch(scene: Scene, run_id: str, first: int) -> bytes:
    """What one watcher saw, that began at this replica."""
    seen = b""
    async with interlock.connect(scene.addresses(first), api_key=_key(scene.replicas[0])) as client:
        async for event in client.runs.follow(run_id):
            if isinstance(event, types.OutputChunk):
                seen += event.data
    return seen


async def _judge(show: Show, scene: Scene, size: Size, runs: list[types.Run], seen: list[bytes]) -> bool:
    is_good = True
    for number, run in enumerate(runs):
        expected = size.output(run.id)
        whole = sum(one == expected for one in seen[number * WATCHERS_PER_TASK :][:WATCHERS_PER_TASK])
        ended = await scene.client.runs.get(run.id)
        state = types.RunState.Name(ended.state).removeprefix("RUN_STATE_")
        performed = [
            event async for event in scene.client.audit.list(resource_id=run.id, action="run.performing")
        ]
        show.say(
            f"{run.id}: {state}, performed {len(performed)} time(s), {len(expected)} bytes; "
            f"{whole} of {WATCHERS_PER_TASK} watchers got each of them once and in order"
        )
        is_good &= (state, len(performed), whole) == ("FINISHED", 1, WATCHERS_PER_TASK)
    show.say("nothing was lost, nothing ran twice" if is_good else "FAILED: see above")
    return is_good


def _key(first: Replica) -> str:
    return first.folder.with_name("admin.key").read_text().strip()


@contextlib.asynccontextmanager
async def _scene(show: Show, folder: Path, engine_url: str, output: str) -> AsyncIterator[Scene]:
    with postgres.running(is_durable=True) as cluster, _place(output, folder) as place:
        show.say(f"PostgreSQL runs; output goes to {_NAMES[output]}; logs are in {folder}")
        shared = {
            "INTERLOCK_DATABASE_URL": cluster.url(),
            "INTERLOCK_MASTER_KEY": secrets.token_hex(32),
            "INTERLOCK_FIRST_KEY_FILE": str(folder / "admin.key"),
            **place,
        }
        replicas = [Replica(number, folder / f"replica-{number}", shared) for number in range(REPLICAS)]
        runners: list[Part] = []
        try:
            for replica in replicas:
                await replica.start()
                show.say(f"replica {replica.number} serves at {replica.address}")
            addresses = ",".join(replica.address for replica in replicas)
            async with interlock.connect(addresses, api_key=_key(replicas[0])) as client:
                scene = Scene(show, replicas, runners, client)
                for number in range(RUNNERS):
                    await _start_runner(scene, number, folder, engine_url)
                yield scene
        finally:
            for part in runners:
                # One that was asked to end would wait for what performs.
                part.kill()
            for replica in replicas:
                replica.part.stop()


@contextlib.contextmanager
def _place(output: str, folder: Path) -> Iterator[Mapping[str, str]]:
    """The setting that says where output goes."""
    if output == FOLDER:
        yield {"INTERLOCK_SHARED_DIR": str(folder / "shared")}
        return
    with objects.running() as server:
        yield server.environment()


async def _start_runner(scene: Scene, number: int, folder: Path, engine_url: str) -> None:
    name = f"runner {number}"
    token = await scene.client.pools.create_token("public", name=name)
    started = parts.runner(
        name.replace(" ", "-"), folder, scene.addresses(number), token.credential, engine_url
    )
    scene.runners.append(started)
    started.start()
    await started.logged("runner.ready")
    scene.show.say(f"{name} is connected to replica {number}")


async def _demonstrate(folder: Path, engine_url: str, image: str, size: Size, output: str) -> bool:
    show = Show()
    async with _scene(show, folder, engine_url, output) as scene:
        return await play(show, scene, size, image)


@contextlib.contextmanager
def _folder(engine_url: str) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="interlock-ha-")).resolve()
    try:
        yield folder
    finally:
        for runner_id in folder.glob("runner-*/runner-id"):
            leftovers.remove(engine_url, folder, runner_id.read_text().strip())
        shutil.rmtree(folder)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="make demo-ha", description=__doc__)
    parser.add_argument("--tasks", type=int, default=4)
    parser.add_argument("--seconds", type=int, default=30, help="how long each task performs")
    parser.add_argument("--rounds", type=int, default=3, help="how many replicas are killed, in turn")
    parser.add_argument("--output", choices=[OBJECTS, FOLDER], default=OBJECTS, help="where output is kept")
    given = parser.parse_args(arguments)
    engine_url, image = os.environ.get("DOCKER_HOST"), os.environ.get("INTERLOCK_TEST_IMAGE")
    if not engine_url or not image:
        sys.exit("set-up: start it with `make demo-ha`, which finds what it needs")
    size = Size(given.tasks, given.seconds, given.rounds)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with answering(), _folder(engine_url) as folder:
            return 0 if asyncio.run(_demonstrate(folder, engine_url, image, size, given.output)) else 1
    except KeyboardInterrupt:
        print("\ninterrupted; nothing is left running", file=sys.stderr)
        return EXIT_INTERRUPTED
    except parts.PartFailed as error:
        print(error, file=sys.stderr)
        return 1


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
