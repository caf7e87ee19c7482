"""`python -m runner`: reads the configuration, builds the parts, runs them, ends them."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from importlib.metadata import version
from typing import NoReturn

import structlog

from interlock.v1.runner_service_pb2 import Hello
from runner import folder, logs, machine
from runner.belonging import belongs_to
from runner.config import Config, read_config
from runner.connection import Connection
from runner.docker_engine import DockerEngine
from runner.engine import Engine
from runner.errors import ConfigInvalid, EngineRefused, EngineUnavailable, FolderTaken, RunnerError
from runner.journal import Journal
from runner.roster import Roster
from runner.sweep import sweep_containers, sweep_folder
from runner.warm import WarmPool
from runner.without_engine import WithoutEngine
from runner.workshop import Workshop

log = structlog.get_logger("runner")

PROTOCOL_VERSION = 1
_ENGINE_RETRY_S = 2.0
_ENGINE_CHECK_S = 5.0


def main() -> int:
    logs.configure()
    try:
        config = read_config(os.environ)
        with folder.taken(config.folder):
            runner_id = folder.runner_id(config.folder)
            with machine.only_one(runner_id):
                asyncio.run(serve(config, runner_id))
    except (ConfigInvalid, FolderTaken) as error:
        print(f"runner: {error.message}", file=sys.stderr)
        return 2
    except RunnerError as error:
        log.error("runner.failed", error=error.message, hint="what it held goes on; start it again")
        return 1
    except (asyncio.CancelledError, KeyboardInterrupt):
        log.info("runner.left", hint="what it held goes on in its containers, and is found at the next start")
    return 0


async def serve(config: Config, runner_id: str) -> None:
    """Until it is asked to end and has nothing left to do. Cancelled by a second signal, it leaves at once."""
    journal = Journal(config.folder)
    entries = journal.load()
    connection, greeting = Connection(config), _greeting(config, runner_id)
    engine = await _engine(connection, greeting, may_connect=not entries)
    here = await engine.identity()
    machine.check_journal(entries, here, config.folder)
    greeting.machine_id = machine.machine_id(here)
    sweep_folder(config.folder)
    found = await sweep_containers(engine, runner_id=runner_id, held=entries)
    warm = WarmPool(engine, runner_id=runner_id, per_kind=config.warm, total=config.capacity)
    workshop = Workshop(
        engine=engine,
        journal=journal,
        warm=warm,
        runner_id=runner_id,
        engine_id=here.id,
        folder=config.folder,
        max_spool_bytes=config.max_spool_bytes,
        git_protocols=config.git_protocols,
        fetch_archive=connection.fetch_source,
        store_plan=connection.store_plan,
    )
    roster = Roster(
        workshop,
        greeting,
        entries=entries,
        present={entry.assignment_id for entry in entries if any(belongs_to(each, entry) for each in found)},
    )
    _end_on_signals(roster)
    background = [
        asyncio.create_task(work) for work in (connection.run(roster), _watch(engine, roster), warm.run())
    ]
    executing = asyncio.create_task(roster.run())
    try:
        done, _ = await asyncio.wait({executing, *background}, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in (*background, executing):
            task.cancel()
        await asyncio.gather(*background, executing, return_exceptions=True)
        await engine.close()


async def _engine(connection: Connection, greeting: Hello, *, may_connect: bool) -> Engine:
    """Waits for the engine. `may_connect`: the runner holds nothing, so it can show itself meanwhile."""
    showing: asyncio.Task[NoReturn] | None = None
    try:
        while True:
            try:
                return await DockerEngine.connect()
            except EngineUnavailable as error:
                log.error("engine.awaited", error=error.message, hint="start the engine, or set DOCKER_HOST")
                if showing is None and may_connect:
                    showing = asyncio.create_task(connection.run(WithoutEngine(greeting, error.message)))
            await asyncio.sleep(_ENGINE_RETRY_S)
    finally:
        if showing is not None:
            showing.cancel()
            await asyncio.gather(showing, return_exceptions=True)


async def _watch(engine: Engine, roster: Roster) -> NoReturn:
    while True:
        try:
            await engine.ping()
            roster.note_engine("")
        except (EngineUnavailable, EngineRefused) as error:
            roster.note_engine(error.message)
        await asyncio.sleep(_ENGINE_CHECK_S)


def _greeting(config: Config, runner_id: str) -> Hello:
    return Hello(
        protocol_version=PROTOCOL_VERSION,
        version=version("interlock"),
        runner_id=runner_id,
        name=config.name,
        capacity=config.capacity,
        boot_id=machine.boot_id(),
    )


def _end_on_signals(roster: Roster) -> None:
    """The first drains; the second leaves at once."""
    serving = asyncio.current_task()
    assert serving is not None
    signals: list[int] = []

    def end(number: int) -> None:
        signals.append(number)
        if len(signals) == 1:
            roster.leave()
        else:
            serving.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, end, number)


if __name__ == "__main__":
    sys.exit(main())
