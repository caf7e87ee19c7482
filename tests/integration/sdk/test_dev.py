"""`interlock dev`: ready in one command, and nothing left behind, however it ends."""

import os
import signal
import subprocess
from pathlib import Path

from tests.integration.sdk.running import CLI, Dev, descendants, eventually, is_alive


def test_ctrl_c_ends_all_and_leaves_no_process(own_dev: Dev) -> None:
    own_dev.start()
    children = descendants(own_dev.process.pid)
    assert len(children) >= 3  # control plane, OPA, runner

    assert own_dev.interrupt() == 0

    assert not [pid for pid in children if is_alive(pid)]


def test_its_own_sudden_death_leaves_no_process(own_dev: Dev) -> None:
    own_dev.start()
    children = descendants(own_dev.process.pid)

    own_dev.process.kill()

    eventually(lambda: not [pid for pid in children if is_alive(pid)])


def test_a_child_that_dies_ends_all_and_is_named(own_dev: Dev) -> None:
    own_dev.start()
    children = descendants(own_dev.process.pid)
    runner = next(pid for pid in children if b"\0runner\0" in Path(f"/proc/{pid}/cmdline").read_bytes())

    os.kill(runner, signal.SIGKILL)

    assert own_dev.process.wait(timeout=60) == 1
    assert "the runner ended by itself with exit code -9" in own_dev.printed()
    assert not [pid for pid in children if is_alive(pid)]


def test_a_second_start_has_the_same_address_key_and_data(own_dev: Dev) -> None:
    first = own_dev.start()
    key = next(line for line in first.splitlines() if line.startswith("key_"))
    own_dev.run("pool", "create", "kept")
    address = own_dev.run("whoami").stdout.split("control plane\t")[1]
    own_dev.interrupt()

    second = own_dev.start()

    assert key not in second  # it is shown once
    assert own_dev.run("whoami").stdout.split("control plane\t")[1] == address
    assert "kept" in own_dev.run("pool", "list").stdout


def test_a_second_one_in_the_same_folder_is_refused(dev: Dev) -> None:
    refused = dev.run("dev", "--data-dir", str(dev.data_dir), check=False)

    assert refused.returncode == 1
    assert "another `interlock dev` works in" in refused.stderr


def test_secrets_lie_in_files_that_others_cannot_read(dev: Dev) -> None:
    assert dev.data_dir.stat().st_mode & 0o077 == 0
    for name in ("admin.key", "pool.token"):
        assert (dev.data_dir / name).stat().st_mode & 0o077 == 0


def test_without_a_docker_engine_it_ends_and_says_so(dev: Dev, tmp_path: Path) -> None:
    environ = dev.environ | {"DOCKER_HOST": f"unix://{tmp_path}/none.sock"}
    command = [*CLI, "dev", "--data-dir", str(tmp_path / "data")]

    refused = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)

    assert refused.returncode == 1
    assert "finds no Docker Engine: start one, or set DOCKER_HOST" in refused.stderr
    # The profile is still that of the one which runs.
    dev.run("whoami")


def test_without_opa_it_ends_and_says_so(dev: Dev, tmp_path: Path) -> None:
    environ = dev.environ | {"INTERLOCK_OPA": str(tmp_path / "no-opa")}
    command = [*CLI, "dev", "--data-dir", str(tmp_path / "data")]

    refused = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)

    assert refused.returncode == 1
    assert "the control plane ended at once" in refused.stderr
    assert "no-opa" in refused.stderr
