"""The whole way of a task on the real engine: allowed, alone on its stack, masked, followed, recorded."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from contextlib import suppress
from pathlib import Path

import docker
import pytest

import interlock
from interlock import errors, types
from interlock.client import Client
from tests import house as houses
from tests.e2e.conftest import new_stack
from tests.holding import HOLD, containers_of, release
from tests.house import House, reached, run_task, watch

SECRET = "s3cr3t-t0ken-0f-the-clo\u00fcd"


async def test_a_task_goes_through_its_states_and_its_output_is_seen(client: Client, test_image: str) -> None:
    stack = await new_stack(client, test_image)
    seen = await run_task(client, stack.id, "echo out; echo err >&2; pwd; id -u")
    assert seen.output == b"out\nerr\n/mnt/workspace/source\n1983\n"
    history = [types.RunState.Name(change.state).removeprefix("RUN_STATE_") for change in seen.run.history]
    assert history == ["QUEUED", "READY", "PREPARING", "INITIALIZING", "PERFORMING", "FINISHED"]
    assert seen.run.output_sha256 == hashlib.sha256(seen.output).hexdigest()


async def test_the_exit_code_of_the_command_is_the_runs(client: Client, test_image: str) -> None:
    stack = await new_stack(client, test_image)
    seen = await run_task(client, stack.id, "echo before; exit 42")
    assert (seen.state, seen.run.exit_code, seen.run.failure) == (
        "FAILED",
        42,
        types.RunFailure.RUN_FAILURE_COMMAND,
    )


async def test_a_task_can_be_watched_from_any_byte_while_it_runs_and_afterwards(
    client: Client, test_image: str
) -> None:
    stack = await new_stack(client, test_image)
    whole = await run_task(client, stack.id, "seq 1 20000")
    assert whole.output == b"".join(b"%d\n" % number for number in range(1, 20001))
    for offset in (0, 1, 4096, len(whole.output) - 1, len(whole.output)):
        assert (await watch(client, whole.run.id, offset=offset)).output == whole.output[offset:]


async def test_output_that_is_not_text_comes_through_byte_for_byte(client: Client, test_image: str) -> None:
    stack = await new_stack(client, test_image)
    seen = await run_task(client, stack.id, r"printf '\000\377\r\n\303(end'")
    assert seen.output == b"\x00\xff\r\n\xc3(end"


async def test_init_runs_before_the_command_in_the_same_container(client: Client, test_image: str) -> None:
    hooks = types.Hooks(
        before_init=["echo before init", "export FROM_HOOK=exported"],
        after_init=["echo after init"],
        before_perform=["echo before perform"],
        after_perform=["echo after perform"],
        after_run=['echo "after run: $INTERLOCK_RUN_STATE"'],
    )
    stack = await new_stack(client, test_image, custom_init=["echo init > made-by-init"], hooks=hooks)
    seen = await run_task(client, stack.id, 'cat made-by-init; echo "$FROM_HOOK"')
    assert seen.output.decode().split("\n") == [
        "before init", "after init", "before perform", "init", "exported", "after perform", "after run: FINISHED", ""
    ]  # fmt: skip


async def test_what_init_wrote_is_seen_before_the_news_that_the_command_performs(
    client: Client, test_image: str
) -> None:
    stack = await new_stack(client, test_image, custom_init=["seq 1 3000", "echo end of init"])
    run = await client.runs.create_task(stack.id, "echo of the command")
    before, after = b"", b""
    is_performing = False
    async for event in client.runs.follow(run.id):
        if isinstance(event, types.Run):
            is_performing = is_performing or event.state == types.RunState.RUN_STATE_PERFORMING
        elif is_performing:
            after += event.data
        else:
            before += event.data
    assert before.endswith(b"\n3000\nend of init\n")
    assert after == b"of the command\n"


async def test_a_failing_init_means_that_the_command_is_not_performed(
    client: Client, test_image: str
) -> None:
    stack = await new_stack(client, test_image, custom_init=["echo cannot; exit 7"])
    seen = await run_task(client, stack.id, "echo performed")
    assert (seen.state, seen.run.failure) == ("FAILED", types.RunFailure.RUN_FAILURE_INITIALIZATION)
    assert "PERFORMING" not in seen.states
    assert b"performed" not in seen.output


async def test_skipping_initialization_skips_init_and_its_hooks(client: Client, test_image: str) -> None:
    hooks = types.Hooks(before_init=["echo hook"])
    stack = await new_stack(client, test_image, custom_init=["echo init"], hooks=hooks)
    assert (await run_task(client, stack.id, "echo only", skip_init=True)).output == b"only\n"


async def test_secrets_are_masked_in_every_spelling_and_plain_values_are_not(
    client: Client, test_image: str
) -> None:
    stack = await new_stack(client, test_image)
    await client.stacks.set_environment(
        stack.id, variables={"REGION": "eu-west-1"}, secrets={"TOKEN": SECRET}
    )
    seen = await run_task(
        client, stack.id, 'env; printf %s "$TOKEN" | base64; echo "$REGION"; printf "%s\\n" "$TOKEN"'
    )
    assert seen.state == "FINISHED"
    assert b"TOKEN=***\n" in seen.output
    assert b"REGION=eu-west-1" in seen.output
    assert SECRET.encode() not in seen.output
    assert base64.b64encode(SECRET.encode())[:16] not in seen.output


async def test_a_secret_written_slowly_byte_by_byte_is_masked(client: Client, test_image: str) -> None:
    stack = await new_stack(client, test_image)
    await client.stacks.set_environment(stack.id, secrets={"TOKEN": "abcdefgh"})
    seen = await run_task(
        client, stack.id, "for c in a b c d e f g h; do printf $c; sleep 0.06; done; echo; echo abcd"
    )
    assert seen.output == b"***\nabcd\n"


async def test_secrets_are_nowhere_but_in_the_running_command(
    house: House, client: Client, test_image: str, docker_client: docker.DockerClient
) -> None:
    """Invariant 5, seen from outside: not in `docker inspect`, not in any file of server and runner."""
    stack = await new_stack(client, test_image)
    await client.stacks.set_environment(stack.id, secrets={"TOKEN": "plainly-visible-token"})
    run = await client.runs.create_task(stack.id, HOLD)
    await reached(client, run.id, "PERFORMING")
    [container] = containers_of(docker_client, run.id)
    assert "plainly-visible-token" not in json.dumps(container.attrs)
    files = contents(house.folder)
    release(docker_client, run.id)
    assert (await watch(client, run.id)).state == "FINISHED"
    assert files
    assert [path for path, content in files.items() if b"plainly-visible-token" in content] == []


async def test_secrets_come_back_as_a_checksum_only(client: Client) -> None:
    stack = await new_stack(client)
    await client.stacks.set_environment(
        stack.id, secrets={"A": "same-value", "B": "same-value", "C": "other-value"}
    )
    variables = {
        variable.name: variable for variable in (await client.stacks.get_environment(stack.id)).variables
    }
    assert {variable.value for variable in variables.values()} == {""}
    assert variables["A"].checksum == variables["B"].checksum != variables["C"].checksum


async def test_mounted_files_are_there_for_init_and_command(client: Client, test_image: str) -> None:
    stack = await new_stack(client, test_image, custom_init=["cat settings.txt"])
    await client.stacks.set_environment(stack.id, files={"source/settings.txt": b"mounted\n"})
    assert (await run_task(client, stack.id, "cat settings.txt")).output == b"mounted\nmounted\n"


async def test_the_run_knows_itself_by_its_variables(client: Client, test_image: str) -> None:
    stack = await new_stack(client, test_image)
    seen = await run_task(client, stack.id, 'echo "$INTERLOCK_RUN_ID $INTERLOCK_STACK_ID"')
    assert seen.output.decode() == f"{seen.run.id} {stack.id}\n"


async def test_an_uploaded_source_is_the_workspace(client: Client, test_image: str, tmp_path: Path) -> None:
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "main.txt").write_text("from the archive\n")
    stack = await new_stack(client, test_image)
    await client.stacks.push(stack.id, tmp_path)
    seen = await run_task(client, stack.id, "cat modules/main.txt; touch modules/mine")
    assert (seen.state, seen.output) == ("FINISHED", b"from the archive\n")


async def test_an_archive_that_is_gone_from_the_server_is_named_in_the_runs_failure(
    house: House, client: Client, test_image: str, tmp_path: Path
) -> None:
    (tmp_path / "main.txt").write_text(test_image)
    stack = await new_stack(client, test_image)
    pushed = await client.stacks.push(stack.id, tmp_path)
    (house.data_dir / "sources" / pushed.source.archive.sha256).unlink()
    seen = await run_task(client, stack.id, "true")
    assert (seen.state, seen.run.failure) == ("FAILED", types.RunFailure.RUN_FAILURE_PREPARATION)
    assert "push it again" in seen.run.state_reason


async def test_a_git_source_is_checked_out_at_the_commit_of_the_tasks_creation(
    client: Client, test_image: str, tmp_path: Path
) -> None:
    commits = await _repository(tmp_path, "first", "second")
    stack = await new_stack(client, test_image, source=interlock.git(f"file://{tmp_path}", ref="main"))
    seen = await run_task(client, stack.id, "cat version; ls -a")
    assert seen.run.commit.hash == commits[-1]
    assert seen.output.startswith(b"second\n")
    await client.stacks.update(stack.id, source=interlock.git(f"file://{tmp_path}", ref=commits[0]))
    assert (await run_task(client, stack.id, "cat version")).output == b"first\n"


async def test_the_second_task_waits_for_the_first_and_says_for_whom(
    client: Client, test_image: str, docker_client: docker.DockerClient
) -> None:
    stack = await new_stack(client, test_image)
    first = await client.runs.create_task(stack.id, f"{HOLD}; echo first")
    await reached(client, first.id, "PERFORMING")
    second = await client.runs.create_task(stack.id, "echo second")
    waiting = (await client.runs.get(second.id)).waiting
    assert (waiting.reason, waiting.blocking_run_id) == (types.WaitReason.WAIT_REASON_SLOT_TAKEN, first.id)
    release(docker_client, first.id)
    seen_first, seen_second = await asyncio.gather(watch(client, first.id), watch(client, second.id))
    assert (seen_first.output, seen_second.output) == (b"first\n", b"second\n")
    assert seen_first.run.finish_time.ToNanoseconds() <= _time_of(seen_second.run, "READY")
    assert seen_second.run.fencing_token > seen_first.run.fencing_token


async def test_a_performing_task_refuses_to_stop_and_goes_on(
    client: Client, test_image: str, docker_client: docker.DockerClient
) -> None:
    stack = await new_stack(client, test_image)
    run = await client.runs.create_task(stack.id, f"{HOLD}; echo whole")
    await reached(client, run.id, "PERFORMING")
    with pytest.raises(errors.WrongState, match="cannot be stopped"):
        await client.runs.stop(run.id)
    release(docker_client, run.id)
    assert (await watch(client, run.id)).output == b"whole\n"


async def test_a_task_is_stopped_while_it_initializes_and_its_slot_is_free(
    client: Client, test_image: str, docker_client: docker.DockerClient
) -> None:
    stack = await new_stack(client, test_image, custom_init=["echo waiting; sleep 600"])
    run = await client.runs.create_task(stack.id, "echo performed")
    await reached(client, run.id, "INITIALIZING")
    await client.runs.stop(run.id)
    seen = await watch(client, run.id)
    assert (seen.state, "PERFORMING" in seen.states, b"performed" in seen.output) == ("STOPPED", False, False)
    assert (await client.stacks.get(stack.id)).active_run_id == ""
    await houses.until(lambda: not containers_of(docker_client, run.id), "the container to go")


async def test_a_queued_task_can_be_discarded(
    client: Client, test_image: str, docker_client: docker.DockerClient
) -> None:
    stack = await new_stack(client, test_image)
    first = await client.runs.create_task(stack.id, HOLD)
    await reached(client, first.id, "PERFORMING")
    second = await client.runs.create_task(stack.id, "echo never")
    assert (await client.runs.discard(second.id)).state == types.RunState.RUN_STATE_DISCARDED
    release(docker_client, first.id)
    await watch(client, first.id)
    assert (await watch(client, second.id)).output == b""


async def test_a_stack_with_a_run_cannot_be_deleted_and_its_record_stays_after_it_is(
    client: Client, test_image: str, docker_client: docker.DockerClient
) -> None:
    stack = await new_stack(client, test_image)
    run = await client.runs.create_task(stack.id, f"{HOLD}; echo kept")
    await reached(client, run.id, "PERFORMING")
    with pytest.raises(errors.FailedPrecondition):
        await client.stacks.delete(stack.id)
    release(docker_client, run.id)
    await watch(client, run.id)
    await client.stacks.delete(stack.id)
    with pytest.raises(errors.NotFound):
        await client.stacks.get(stack.id)
    assert (await watch(client, run.id)).output == b"kept\n"


@pytest.mark.parametrize(
    ("image", "words"),
    [("interlock.invalid/none:none", "interlock.invalid/none:none"), ("no-shell", "sh")],
    ids=["an image that does not exist", "an image without sh"],
)
async def test_an_image_that_cannot_run_is_a_clear_failure(
    client: Client, docker_client: docker.DockerClient, tmp_path: Path, image: str, words: str
) -> None:
    if image == "no-shell":
        (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /only-this\n")
        image = str(docker_client.images.build(path=str(tmp_path), tag="interlock-test-no-shell")[0].tags[0])
    stack = await new_stack(client, image)
    seen = await run_task(client, stack.id, "echo never")
    assert (seen.state, seen.run.failure) == ("FAILED", types.RunFailure.RUN_FAILURE_PREPARATION)
    assert words in seen.run.state_reason


async def test_every_step_of_a_task_is_in_the_audit_log_and_the_log_verifies(
    client: Client, test_image: str
) -> None:
    """Invariant 7."""
    stack = await new_stack(client, test_image)
    seen = await run_task(client, stack.id, "true")
    actions = [event.action async for event in client.audit.list(stack_id=stack.id)]
    assert actions[::-1] == [
        "stack.created",
        "task.created",
        "run.ready",
        "run.preparing",
        "run.initializing",
        "run.performing",
        "run.finished",
    ]
    [created] = [event async for event in client.audit.list(resource_id=seen.run.id, action="task.created")]
    assert (created.caller.login, json.loads(created.details_json)["command"]) == ("admin", "true")
    assert (await client.audit.verify()).intact


async def test_nothing_of_a_run_is_left_on_the_engine_or_the_runner(
    house: House, client: Client, test_image: str, docker_client: docker.DockerClient
) -> None:
    stack = await new_stack(client, test_image)
    seen = await run_task(client, stack.id, "echo gone")
    await houses.until(lambda: not containers_of(docker_client, seen.run.id), "the container to go")
    left = house.folder / "runner-one" / "assignments"
    await houses.until(
        lambda: not [path for path in left.rglob("*") if path.is_file()], "the journal to be empty"
    )


def contents(folder: Path) -> dict[Path, bytes]:
    """Of every file but keys; what an earlier run had may go away meanwhile."""
    found = {}
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError, IsADirectoryError):
            if path.suffix != ".key":
                found[path] = path.read_bytes()
    return found


def _time_of(run: types.Run, state: str) -> int:
    [change] = [change for change in run.history if types.RunState.Name(change.state) == f"RUN_STATE_{state}"]
    return int(change.change_time.ToNanoseconds())


async def _repository(folder: Path, *versions: str) -> list[str]:
    """A git repository with one commit per version; their hashes."""
    await _git(folder, "init", "--quiet", "--initial-branch=main")
    hashes = []
    for version in versions:
        (folder / "version").write_text(version + "\n")
        await _git(folder, "add", "version")
        await _git(
            folder, "-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "--quiet", "-m", version
        )
        hashes.append((await _git(folder, "rev-parse", "HEAD")).strip())
    return hashes


async def _git(folder: Path, *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        "git", "-C", str(folder), *arguments, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode()
