"""What a real runner puts into a run's container, and how it refuses what it may not."""

import hashlib
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import docker
import pytest

from interlock.v1 import runner_service_pb2 as rpc
from interlock.v1 import stack_pb2
from runner import labels
from runner.docker_engine import DockerEngine
from tests.integration.runner.containers import started
from tests.integration.runner.processes import RunnerProcess
from tests.integration.runner.repositories import Repository
from tests.integration.runner.scripted_servicer import ScriptedControlPlane

StartRunner = Callable[..., RunnerProcess]
MakeJob = Callable[..., rpc.Job]


def tar_of(**files: str) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name.replace("__", "/"))
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    return archive.getvalue()


def offered(control_plane: ScriptedControlPlane, archive: bytes, project_root: str = "") -> rpc.JobSource:
    """The archive as a job's source, to be fetched from the control plane."""
    digest = hashlib.sha256(archive).hexdigest()
    control_plane.archives[digest] = archive
    return rpc.JobSource(archive=rpc.PinnedArchive(sha256=digest), project_root=project_root)


async def test_a_commit_of_a_repository_is_there_for_the_command(
    control_plane: ScriptedControlPlane, start_runner: StartRunner, job: MakeJob, repository: Repository
) -> None:
    commit = repository.commit(stacks__prod__main="from git")
    repository.commit(stacks__prod__main="later")
    git = rpc.PinnedGit(repository_url=f"file://{repository.path}", ref="main", commit=commit)
    runner = start_runner(INTERLOCK_GIT_ALLOW="file")
    await control_plane.connected()
    run = control_plane.assign(job("cat main", source=rpc.JobSource(git=git, project_root="stacks/prod")))
    await control_plane.ended(run)
    assert run.text == "from git"
    assert list(runner.folder.glob("git-*")) == []


async def test_an_archive_is_there_for_the_command(
    control_plane: ScriptedControlPlane, start_runner: StartRunner, job: MakeJob
) -> None:
    start_runner()
    await control_plane.connected()
    source = offered(control_plane, tar_of(stacks__prod__main="from archive"), "stacks/prod")
    run = control_plane.assign(job("cat main && touch new && pwd", source=source))
    await control_plane.ended(run)
    assert run.text == "from archive/mnt/workspace/source/stacks/prod\n"


async def test_mounted_files_are_laid_over_the_source_and_secret_ones_are_masked(
    control_plane: ScriptedControlPlane, start_runner: StartRunner, job: MakeJob
) -> None:
    start_runner()
    await control_plane.connected()
    files = [
        stack_pb2.MountedFile(path="source/main", content=b"mounted\n"),
        stack_pb2.MountedFile(path="keys/token", content=b"swordfish-file", secret=True),
    ]
    source = offered(control_plane, tar_of(main="archived", other="other\n"))
    run = control_plane.assign(job("cat main other ../keys/token; ls -l ../keys", source=source, files=files))
    await control_plane.ended(run)
    assert run.text.startswith("mounted\nother\n***")
    assert "-rw-------" in run.text


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"image": "interlock/no-such-image:1"}, "pull policy says never"),
        ({"source": rpc.JobSource(project_root="stacks")}, "has no files yet"),
        (
            {"source": rpc.JobSource(git=rpc.PinnedGit(repository_url="ext::touch% x", commit="0" * 40))},
            "no address",
        ),
        (
            {"source": rpc.JobSource(git=rpc.PinnedGit(repository_url="file:///x", commit="0" * 40))},
            "only by https",
        ),
        ({"files": [stack_pb2.MountedFile(path="../outside", content=b"x")]}, "leads out of the workspace"),
        (
            {"variables": [stack_pb2.EnvironmentVariable(name="UID", value="0")]},
            "cannot be the name of a variable",
        ),
        ({"container": {"mounts": ["/var/run/docker.sock:/s"]}}, "hand the container engine to the run"),
        ({"container": {"runtime": "no-such-runtime"}}, "no-such-runtime"),
    ],
    ids=["image", "no files", "ext", "file", "mounted", "variable", "mount", "runtime"],
)
async def test_what_cannot_be_prepared_is_said_and_nothing_is_left(
    control_plane: ScriptedControlPlane,
    start_runner: StartRunner,
    job: MakeJob,
    docker_client: docker.DockerClient,
    fields: dict[str, object],
    reason: str,
) -> None:
    runner = start_runner()
    await control_plane.connected()
    run = control_plane.assign(job("echo performed", **fields))
    result = await control_plane.ended(run)
    assert (result.outcome, run.text) == (rpc.RUN_OUTCOME_PREPARATION_FAILED, "")
    assert reason in result.reason
    assert runner.all_containers(docker_client) == []


async def test_a_hostile_archive_is_refused(
    control_plane: ScriptedControlPlane, start_runner: StartRunner, job: MakeJob
) -> None:
    start_runner()
    await control_plane.connected()
    source = offered(control_plane, tar_of(**{"..__outside": "x"}))
    result = await control_plane.ended(control_plane.assign(job("true", source=source)))
    assert result.outcome == rpc.RUN_OUTCOME_PREPARATION_FAILED
    assert "leads out of the workspace" in result.reason


async def test_an_archive_that_is_not_the_one_that_was_uploaded_is_refused(
    control_plane: ScriptedControlPlane, start_runner: StartRunner, job: MakeJob
) -> None:
    start_runner()
    await control_plane.connected()
    control_plane.archives["0" * 64] = tar_of(main="x")
    source = rpc.JobSource(archive=rpc.PinnedArchive(sha256="0" * 64))
    result = await control_plane.ended(control_plane.assign(job("true", source=source)))
    assert "is not the one that was uploaded" in result.reason


async def test_an_image_without_a_shell_is_said_to_be_one(
    control_plane: ScriptedControlPlane, start_runner: StartRunner, job: MakeJob, shellless_image: str
) -> None:
    start_runner()
    await control_plane.connected()
    result = await control_plane.ended(control_plane.assign(job("true", image=shellless_image)))
    assert result.outcome == rpc.RUN_OUTCOME_PREPARATION_FAILED
    assert "has no `sh`" in result.reason


async def test_a_start_removes_what_nobody_holds_and_leaves_a_live_run(
    control_plane: ScriptedControlPlane,
    start_runner: StartRunner,
    docker_engine: DockerEngine,
    test_image: str,
    tmp_path: Path,
) -> None:
    folder = tmp_path / "runner"
    (folder / "git-left").mkdir(parents=True)
    mine = "rnr_" + "s" * 26
    (folder / "runner-id").write_text(f"{mine}\n")
    of_run = labels.of_run(runner_id=mine, run_id="run_1", assignment_id="asg_1", fence=1)
    async with (
        started(docker_engine, test_image, labels=of_run) as ended,
        started(docker_engine, test_image, labels=of_run) as alive,
    ):
        await docker_engine.stop(ended.id, grace_s=0)
        runner = start_runner(folder)
        await control_plane.connected()
        assert [container.id for container in await docker_engine.find(of_run)] == [alive.id]
        assert not (folder / "git-left").exists()
        assert runner.logged("sweep.unknown_run")
