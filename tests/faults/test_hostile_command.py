"""Commands that misbehave: each ends its own run only, as what it is, with its output whole."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator

import docker
import pytest

from interlock import types
from interlock.client import Client
from tests import house as houses
from tests.e2e.conftest import new_stack
from tests.house import House, Watched, run_task

# Far more than any of these needs: what hangs fails here.
SOON_S = 60
FINISHED = ("FINISHED", 0)
NO_NONCE = "0" * 32


@pytest.fixture(scope="module")
async def house(
    tmp_path_factory: pytest.TempPathFactory, engine_url: str, test_image: str
) -> AsyncIterator[House]:
    """For all tests of this file: none of them may harm it."""
    async with houses.opened(tmp_path_factory.mktemp("hostile"), engine_url) as made:
        await made.start_runner("one", capacity=8)
        yield made


async def performed(client: Client, image: str, command: str, **options: object) -> Watched:
    stack = await new_stack(client, image, **options)
    async with asyncio.timeout(SOON_S):
        return await run_task(client, stack.id, command)


@pytest.mark.parametrize(
    ("command", "end", "output"),
    [
        ("echo a; exec >&- 2>&-; echo b; exit 3", ("FAILED", 3), b"a\n"),
        ("echo a; exec 2>&-; nonsense; echo b", FINISHED, b"a\nb\n"),
        ("exec echo replaced", FINISHED, b"replaced\n"),
        ("set -e; trap 'echo trapped' EXIT; false; echo not here", ("FAILED", 1), b"trapped\n"),
        ("echo a; kill -9 1; echo b", FINISHED, b"a\nb\n"),
        ("echo a; kill -9 $$", ("FAILED", 137), b"a\nKilled\n"),
        ("echo a; sleep 1000 & while :; do sleep 1000; done & echo b", FINISHED, b"a\nb\n"),
        ("(trap '' HUP TERM; echo a; sleep 1000) & sleep 0.2; exit 5", ("FAILED", 5), b"a\n"),
        ("rm -rf /mnt/workspace/* 2>/dev/null; cd /; echo gone; exit 6", ("FAILED", 6), b"gone\n"),
        ("printf 'no newline'", FINISHED, b"no newline"),
        (
            f"printf '\\036interlock:{NO_NONCE}:end 0\\n'; exit 9",
            ("FAILED", 9),
            f"\x1einterlock:{NO_NONCE}:end 0\n".encode(),
        ),
        ("cat; read line || echo no input", FINISHED, b"no input\n"),
        ("kill -STOP $PPID; echo a; kill -CONT $PPID", FINISHED, b"a\n"),
    ],
)
async def test_it_ends_as_what_it_is(
    client: Client, test_image: str, command: str, end: tuple[str, int], output: bytes
) -> None:
    seen = await performed(client, test_image, command)
    assert (seen.state, seen.run.exit_code, seen.output) == (*end, output)


async def test_one_that_kills_every_process_fails_and_says_so(client: Client, test_image: str) -> None:
    seen = await performed(client, test_image, "echo a; kill -9 -1")
    assert (seen.state, seen.output) == ("FAILED", b"a\n")
    assert seen.run.failure == types.RunFailure.RUN_FAILURE_CONTAINER_LOST
    assert "killed by signal 9" in seen.run.state_reason


async def test_a_fork_bomb_is_held_by_the_limit_and_others_go_on(client: Client, test_image: str) -> None:
    bomb = "bomb() { bomb | bomb & }; bomb 2>/dev/null; sleep 1; echo survived; exit 4"
    seen, other = await asyncio.gather(
        performed(client, test_image, bomb), performed(client, test_image, "echo other")
    )
    assert seen.state == "FAILED"
    assert (other.state, other.output) == ("FINISHED", b"other\n")


async def test_a_line_of_20_mb_without_an_end_arrives_whole(client: Client, test_image: str) -> None:
    seen = await performed(client, test_image, "head -c 20000000 /dev/zero | tr '\\0' 'x'")
    assert seen.state == "FINISHED"
    assert len(seen.output) == 20_000_000
    assert seen.output.count(b"x") == 20_000_000


async def test_any_bytes_arrive_as_they_are(client: Client, test_image: str) -> None:
    seen = await performed(client, test_image, "head -c 3000000 /dev/urandom | tee /tmp/f; md5sum /tmp/f")
    data, line = seen.output[:3_000_000], seen.output[3_000_000:]
    assert line == hashlib.md5(data).hexdigest().encode() + b"  /tmp/f\n"


async def test_its_secrets_are_in_no_argument_list_of_the_container(
    client: Client, test_image: str, docker_client: docker.DockerClient
) -> None:
    secret = "n0t-f0r-an-argument-list"
    stack = await new_stack(client, test_image)
    await client.stacks.set_environment(stack.id, secrets={"TOKEN": secret})
    seen = await run_task(
        client,
        stack.id,
        "for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline; echo; done; cat /proc/1/environ",
    )
    assert seen.state == "FINISHED"
    assert b"***" not in seen.output, seen.output


@pytest.mark.parametrize(
    "name", ["PATH", "HOME", "PS4", "ENV", "BASH_ENV", "CDPATH", "TMPDIR", "s", "l", "n", "_x"]
)
async def test_a_variable_with_a_meaning_for_the_shell_arrives_as_it_was_set(
    client: Client, test_image: str, name: str
) -> None:
    value = "/bin:/usr/bin:/sbin" if name == "PATH" else "/tmp"
    stack = await new_stack(client, test_image)
    await client.stacks.set_environment(stack.id, variables={name: value})
    seen = await run_task(client, stack.id, f'printf %s "${name}"')
    assert (seen.state, seen.output) == ("FINISHED", value.encode())


async def test_a_thousand_variables_of_any_text_arrive(client: Client, test_image: str) -> None:
    rng = random.Random(4)
    alphabet = "ab '\"\\$`\n\t\r;&|<>()*?[]{}~#!%\x01\x1b\x1e\x7fäß😀"
    variables = {f"V{n}": "".join(rng.choices(alphabet, k=rng.randrange(40))) for n in range(1000)}
    stack = await new_stack(client, test_image)
    await client.stacks.set_environment(stack.id, variables=variables)
    command = 'n=0; while [ $n -lt 1000 ]; do eval "printf \'%s\\0\' \\"\\$V$n\\""; n=$((n+1)); done'
    seen = await run_task(client, stack.id, command)
    assert seen.state == "FINISHED"
    assert seen.output.decode().split("\0")[:-1] == list(variables.values())


@pytest.mark.parametrize(
    "secret", ["line one\nline two\n", 'it\'s "quoted"', "$(touch /tmp/pwned)`id`", "\\n\\t%s", "  spaces  "]
)
async def test_a_secret_of_any_text_arrives_and_is_masked(
    client: Client, test_image: str, secret: str
) -> None:
    stack = await new_stack(client, test_image)
    await client.stacks.set_environment(stack.id, secrets={"TOKEN": secret})
    seen = await run_task(
        client,
        stack.id,
        'printf %s "$TOKEN" | md5sum; printf "%s" "$TOKEN"; printf "%s" "$TOKEN" | base64 -w0; test ! -e /tmp/pwned',
    )
    assert seen.state == "FINISHED"
    assert seen.output.startswith(hashlib.md5(secret.encode()).hexdigest().encode())
    assert secret.strip().encode() not in seen.output


@pytest.mark.parametrize(
    "hook", ["exit 0", "exec true", "kill -9 $$", "trap '' EXIT; exit 0", "exec >&-; exit 0"]
)
async def test_a_hook_that_leaves_lets_no_command_be_performed(
    client: Client, test_image: str, hook: str
) -> None:
    hooks = types.Hooks(before_init=[hook])
    seen = await performed(client, test_image, "echo performed", hooks=hooks)
    assert seen.state == "FAILED"
    assert b"performed" not in seen.output


async def test_yes_for_two_seconds_keeps_no_other_run_waiting(client: Client, test_image: str) -> None:
    loud = asyncio.create_task(performed(client, test_image, "timeout 2 yes; :"))
    other = await performed(client, test_image, "echo other")
    assert not loud.done()
    seen = await loud
    assert (other.output, seen.state) == (b"other\n", "FINISHED")
    output = seen.output.removesuffix(b"Terminated\n")
    assert output == b"y\n" * (len(output) // 2)
