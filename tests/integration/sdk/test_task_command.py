"""`interlock task run` and `watch`: bytes on standard output, words on standard error, the command's exit code."""

import base64
import hashlib
import json
import os
import pty
import re
import signal
import subprocess

import docker
import pytest

from tests.holding import HOLD, release
from tests.integration.sdk.running import CLI, Dev, eventually

RUN_ID = re.compile(r"run_[a-z0-9]{26}")


def run_id_of(process: subprocess.Popen[bytes], *, until: str) -> str:
    """Reads standard error up to a word of it."""
    assert process.stderr is not None
    text = ""
    while until not in text:
        line = process.stderr.readline().decode()
        assert line, f"{until!r} never came:\n{text}"
        text += line
    found = RUN_ID.search(text)
    assert found is not None
    return found[0]


def state_of(dev: Dev, run_id: str) -> str:
    return str(json.loads(dev.run("task", "show", run_id, "-o", "json").stdout)["state"])


def wait_for(dev: Dev, run_id: str, state: str) -> None:
    eventually(lambda: state_of(dev, run_id) == f"RUN_STATE_{state}")


def hold(dev: Dev, stack: str) -> str:
    """A task that performs until it is released."""
    run_id = dev.run("task", "run", stack, "--detach", "--", HOLD).stdout.strip()
    wait_for(dev, run_id, "PERFORMING")
    return run_id


def test_output_goes_to_stdout_and_states_to_stderr(dev: Dev, stack: str) -> None:
    done = dev.run("task", "run", stack, "--", "cat hello.txt; echo over >&2")

    assert done.stdout == "hello\nover\n"
    assert [
        word for word in ("queued", "performing", "finished, exit code 0") if word not in done.stderr
    ] == []


@pytest.mark.parametrize("code", [1, 7, 255])
def test_the_exit_code_is_the_commands(dev: Dev, stack: str, code: int) -> None:
    assert dev.run("task", "run", stack, "--", f"exit {code}", check=False).returncode == code


def test_several_words_are_quoted_for_the_shell(dev: Dev, stack: str) -> None:
    assert dev.run("task", "run", stack, "--", "echo", "a  b", "$HOME", ";", "'").stdout == "a  b $HOME ; '\n"


def test_output_is_byte_exact(dev: Dev, stack: str) -> None:
    command = "i=0; while [ $i -lt 2000 ]; do printf '\\000\\377\\r\\n%05d' $i; i=$((i+1)); done"
    process = dev.begin("task", "run", stack, "--", command)
    stdout, _ = process.communicate(timeout=120)

    assert (
        hashlib.sha256(stdout).digest()
        == hashlib.sha256(b"".join(b"\x00\xff\r\n%05d" % number for number in range(2000))).digest()
    )


@pytest.mark.parametrize("arguments", [["no-such-stack", "--", "true"], ["{stack}", "--", " "]])
def test_a_refusal_is_125_and_says_why(dev: Dev, stack: str, arguments: list[str]) -> None:
    refused = dev.run("task", "run", *(each.format(stack=stack) for each in arguments), check=False)

    assert refused.returncode == 125
    assert refused.stdout == ""
    assert refused.stderr.startswith("interlock: ")


def test_a_task_before_whose_command_something_fails_is_125(dev: Dev, stack: str) -> None:
    dev.run("stack", "hook", "set", stack, "before_init", "echo in the hook; exit 3")

    failed = dev.run("task", "run", stack, "--", "echo never", check=False)

    assert failed.returncode == 125
    assert "in the hook" in failed.stdout
    assert "never" not in failed.stdout


def test_a_second_task_waits_and_says_for_which(
    dev: Dev, stack: str, docker_client: docker.DockerClient
) -> None:
    first = dev.begin("task", "run", stack, "--", HOLD)
    first_id = run_id_of(first, until="performing")
    second = dev.begin("task", "run", stack, "--", "true")

    second_id = run_id_of(second, until="waits:")

    assert first_id in dev.run("task", "show", second_id).stdout
    release(docker_client, first_id)
    assert (first.wait(timeout=60), second.wait(timeout=60)) == (0, 0)


def test_ctrl_c_before_performing_stops_the_run_without_a_terminal(
    dev: Dev, stack: str, docker_client: docker.DockerClient
) -> None:
    blocker = hold(dev, stack)
    process = dev.begin("task", "run", stack, "--", "echo never")
    run_id = run_id_of(process, until="waits:")

    process.send_signal(signal.SIGINT)

    assert process.wait(timeout=30) == 130
    assert state_of(dev, run_id) == "RUN_STATE_DISCARDED"
    release(docker_client, blocker)
    dev.run("task", "watch", blocker)


def test_ctrl_c_while_performing_detaches_and_says_how_to_come_back(
    dev: Dev, stack: str, docker_client: docker.DockerClient
) -> None:
    process = dev.begin("task", "run", stack, "--", f"echo one; {HOLD}; echo two")
    assert process.stdout is not None
    assert process.stdout.readline() == b"one\n"

    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)

    assert process.returncode == 130
    command = re.search(rb"interlock (task watch (run_\w+) --offset 4)", stderr)
    assert command is not None, stderr
    release(docker_client, command[2].decode())
    assert dev.run(*command[1].decode().split()).stdout == "two\n"


def on_terminal(dev: Dev, *arguments: str) -> tuple[subprocess.Popen[bytes], int]:
    """The command with a terminal as all three streams, and the terminal's other end."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*CLI, *arguments], env=dev.environ, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    return process, ours


def read_until(terminal: int, word: str) -> str:
    text = ""
    while word not in text:
        text += os.read(terminal, 65536).decode()
    return text


@pytest.mark.parametrize(("answer", "state", "code"), [("y", "DISCARDED", 130), ("n", "FINISHED", 0)])
def test_ctrl_c_on_a_terminal_asks_first(
    dev: Dev, stack: str, docker_client: docker.DockerClient, answer: str, state: str, code: int
) -> None:
    blocker = hold(dev, stack)
    process, terminal = on_terminal(dev, "task", "run", stack, "--", "true")
    shown = read_until(terminal, "waits:")

    process.send_signal(signal.SIGINT)
    read_until(terminal, "Stop it? [y/N]")
    os.write(terminal, f"{answer}\n".encode())
    release(docker_client, blocker)

    assert process.wait(timeout=60) == code
    os.close(terminal)
    found = RUN_ID.search(shown)
    assert found is not None
    assert state_of(dev, found[0]) == f"RUN_STATE_{state}"


def test_json_has_every_event_and_all_bytes(dev: Dev, stack: str) -> None:
    done = dev.run("task", "run", stack, "-o", "json", "--", "printf 'a\\000b'")

    events = [json.loads(line) for line in done.stdout.splitlines()]
    output = b"".join(base64.b64decode(event["output"]["data"]) for event in events if "output" in event)
    assert output == b"a\0b"
    assert [event["run"]["state"] for event in events if "run" in event][-1] == "RUN_STATE_FINISHED"


def test_a_reader_that_goes_away_ends_the_command(dev: Dev, stack: str) -> None:
    process = dev.begin("task", "run", stack, "--", "yes | head -c 5000000")
    assert process.stdout is not None
    process.stdout.read(10)
    process.stdout.close()

    _, stderr = process.communicate(timeout=60)

    assert process.returncode == 141
    assert b"Traceback" not in stderr


def test_the_same_request_id_gives_the_same_run(dev: Dev, stack: str) -> None:
    arguments = ["task", "run", stack, "--detach", "--request-id", "deploy-7", "--", "true"]

    assert dev.run(*arguments).stdout == dev.run(*arguments).stdout


def test_a_stopped_run_is_told_by_task_stop(dev: Dev, stack: str, docker_client: docker.DockerClient) -> None:
    blocker = hold(dev, stack)
    waiting = dev.run("task", "run", stack, "--detach", "--", "true").stdout.strip()

    assert "discarded" in dev.run("task", "stop", waiting).stderr
    refused = dev.run("task", "stop", blocker, check=False)

    assert refused.returncode == 1
    assert "perform" in refused.stderr
    release(docker_client, blocker)
    dev.run("task", "watch", blocker)
