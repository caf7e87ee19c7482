"""What a start of the runner removes, and what it never does."""

from pathlib import Path

from runner import labels
from runner.docker_engine import DockerEngine
from runner.journal import Entry
from runner.sweep import sweep_containers, sweep_folder
from tests.integration.runner.containers import started

MINE = "rnr_sweeper"


def of(assignment: str, runner: str = MINE) -> dict[str, str]:
    return labels.of_run(runner_id=runner, run_id=f"run_{assignment}", assignment_id=assignment, fence=1)


def entry(assignment: str, container_id: str = "") -> Entry:
    return Entry(
        run_id=f"run_{assignment}",
        assignment_id=assignment,
        fencing_token=1,
        boot_id="boot",
        nonce="nonce",
        gate_token="token",
        container_id=container_id,
    )


async def test_only_ended_and_waiting_containers_that_nobody_holds_are_removed(
    docker_engine: DockerEngine, test_image: str
) -> None:
    warm = labels.of_warm(runner_id=MINE)
    async with (
        started(docker_engine, test_image, labels=of("asg_held_running")) as held_running,
        started(docker_engine, test_image, labels=of("asg_held_ended")) as held_ended,
        started(docker_engine, test_image, labels=of("asg_ended")) as ended,
        started(docker_engine, test_image, labels=of("asg_unknown_running")) as unknown_running,
        started(docker_engine, test_image, labels=of("asg_other", runner="rnr_other")) as other,
        started(docker_engine, test_image, labels=warm, name=labels.name_of_warm("sweep1")) as waiting,
        started(docker_engine, test_image, labels=warm, name=labels.name_of_warm("sweep2")) as taken,
    ):
        for each in (held_ended, ended, other):
            await docker_engine.stop(each.id, grace_s=1)
        await docker_engine.rename(taken.id, labels.name_of_run("run_sweep", 7))

        held = [entry("asg_held_running"), entry("asg_held_ended")]
        staying = await sweep_containers(docker_engine, runner_id=MINE, held=held)

        assert {each.id for each in staying} == {held_running.id, held_ended.id, unknown_running.id, taken.id}
        left = {
            each.id
            for runner in (MINE, "rnr_other")
            for each in await docker_engine.find({labels.RUNNER: runner})
        }
        assert left == {each.id for each in staying} | {other.id}
        assert waiting.id not in left


def test_a_repository_that_was_being_fetched_is_removed_with_its_key(tmp_path: Path) -> None:
    (tmp_path / "git-abc").mkdir()
    (tmp_path / "git-abc" / "ssh_key").write_text("PRIVATE")
    (tmp_path / "journal").mkdir()
    sweep_folder(tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == ["journal"]


async def test_a_warm_container_that_a_run_took_is_known_by_its_name_or_by_the_journal(
    docker_engine: DockerEngine, test_image: str
) -> None:
    warm = labels.of_warm(runner_id=MINE)
    async with (
        started(docker_engine, test_image, labels=warm) as renamed,
        started(docker_engine, test_image, labels=warm, name=labels.name_of_warm("sweep3")) as written,
        started(docker_engine, test_image, labels=warm, name=labels.name_of_warm("sweep4")) as waiting,
    ):
        await docker_engine.stop(renamed.id, grace_s=1)
        await docker_engine.rename(renamed.id, labels.name_of_run("run_asg_renamed", 1))
        held = [entry("asg_renamed"), entry("asg_written", container_id=written.id)]
        staying = await sweep_containers(docker_engine, runner_id=MINE, held=held)
        assert {each.id for each in staying} == {renamed.id, written.id}
        assert waiting.id not in {each.id for each in await docker_engine.find({labels.RUNNER: MINE})}
