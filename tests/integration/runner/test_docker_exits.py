"""The end of a container: told by the engine's events, or answered by `wait`."""

import asyncio

from runner.docker_engine import DockerEngine
from runner.script import RunScript
from tests.integration.runner.containers import started

SCRIPT = RunScript(command="exit 7")


async def test_an_event_tells_the_exit_code_of_a_container_that_somebody_waits_for(
    docker_engine: DockerEngine, test_image: str
) -> None:
    async with started(docker_engine, test_image) as running:
        told = asyncio.create_task(docker_engine._exits.exit_code(running.id))
        await running.feed(SCRIPT)
        await running.go()
        assert await asyncio.wait_for(told, 10) == 7


async def test_an_event_that_came_before_the_question_is_remembered(
    docker_engine: DockerEngine, test_image: str
) -> None:
    async with started(docker_engine, test_image) as running:
        await running.feed(SCRIPT)
        await running.go()
        assert (await running.rest())[1].exit_code == 7
        assert await asyncio.wait_for(docker_engine._exits.exit_code(running.id), 10) == 7


async def test_without_events_the_engine_is_waited_for(engine_url: str, test_image: str) -> None:
    engine = await DockerEngine.connect(engine_url)
    engine._exits.close()
    async with started(engine, test_image) as running:
        await running.feed(SCRIPT)
        await running.go()
        assert (await running.rest())[1].exit_code == 7
    await engine.close()
