"""The nouns of the command line against the real system, as a user types them."""

import json
import re
from pathlib import Path

import pytest

from tests.integration.sdk.running import Dev


def listed(dev: Dev, *arguments: str) -> list[list[str]]:
    """The cells of a list."""
    return [line.split("\t") for line in dev.run(*arguments).stdout.splitlines()]


def test_a_stack_is_made_shown_changed_and_deleted(dev: Dev, test_image: str) -> None:
    dev.run("stack", "create", "Core Net", "--tool", "terraform", "--image", test_image, "--label", "prod")

    dev.run("stack", "update", "core-net", "--description", "the core", "--no-labels")

    shown = dev.run("stack", "show", "core-net").stdout
    assert "name\tCore Net\n" in shown
    assert "description\tthe core\n" in shown
    assert "labels" not in shown
    assert ["core-net", "Core Net", "terraform"] in [row[:3] for row in listed(dev, "stack", "list")]
    dev.run("stack", "delete", "core-net", "--yes")
    assert dev.run("stack", "show", "core-net", check=False).returncode == 1


def test_a_git_stack_keeps_its_repository_when_its_ref_changes(dev: Dev, test_image: str) -> None:
    url = "https://example.com/net.git"
    dev.run("stack", "create", "from-git", "--tool", "terraform", "--image", test_image, "--git", url)

    dev.run("stack", "update", "from-git", "--ref", "v2", "--project-root", "prod")

    assert f"{url} at v2, folder prod" in dev.run("stack", "show", "from-git").stdout


def test_plain_and_secret_variables_reach_the_command_and_secrets_are_masked(dev: Dev, stack: str) -> None:
    dev.run("stack", "env", "set", stack, "PLAIN=seen", "--secret", "PIPED", stdin="from-stdin\n")
    dev.environ["FROM_SHELL"] = "from-environment"
    dev.run("stack", "env", "set", stack, "--secret-from", "SHELL=FROM_SHELL")

    output = dev.run("task", "run", stack, "--", "echo $PLAIN $PIPED ${#PIPED} $SHELL ${#SHELL}").stdout

    assert output == "seen *** 10 *** 16\n"
    rows = {row[0]: row[1] for row in listed(dev, "stack", "env", "list", stack)}
    assert rows["PLAIN"] == "seen"
    assert rows["PIPED"].startswith("*** (")
    dev.run("stack", "env", "unset", stack, "PLAIN", "PIPED")
    assert [row[0] for row in listed(dev, "stack", "env", "list", stack)] == ["SHELL"]


def test_a_secret_that_is_too_short_is_refused_with_the_reason(dev: Dev, stack: str) -> None:
    refused = dev.run("stack", "env", "set", stack, "--secret", "PW", stdin="abc", check=False)

    assert refused.returncode == 1
    assert "4 bytes" in refused.stderr


def test_a_mounted_file_is_there_for_the_command(dev: Dev, stack: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"mounted\n")
    dev.run("stack", "file", "set", stack, "source/m.txt", str(tmp_path / "x"))

    assert dev.run("task", "run", stack, "--", "cat m.txt").stdout == "mounted\n"
    dev.run("stack", "file", "unset", stack, "source/m.txt")
    assert listed(dev, "stack", "file", "list", stack) == []


def test_hooks_run_in_their_phases_in_order(dev: Dev, stack: str) -> None:
    dev.run("stack", "hook", "set", stack, "before_init", "echo first", "export SEEN=by-the-command")
    dev.run("stack", "hook", "set", stack, "before_perform", "echo second")

    assert dev.run("task", "run", stack, "--", "echo $SEEN").stdout == "first\nsecond\nby-the-command\n"
    assert listed(dev, "stack", "hook", "list", stack) == [
        ["before_init", "echo first"],
        ["before_init", "export SEEN=by-the-command"],
        ["before_perform", "echo second"],
    ]
    dev.run("stack", "hook", "set", stack, "before_init")
    assert [row[0] for row in listed(dev, "stack", "hook", "list", stack)] == ["before_perform"]


def test_a_policy_denies_with_its_message_until_it_is_detached(dev: Dev, stack: str, tmp_path: Path) -> None:
    rego = 'package spacelift\n\ndeny["no destroy here"] { contains(input.request.command, "destroy") }\n'
    (tmp_path / "p.rego").write_text(rego)
    dev.run("policy", "create", "No destroy", str(tmp_path / "p.rego"), "--kind", "task")
    dev.run("policy", "attach", "no-destroy", stack)

    denied = dev.run("task", "run", stack, "--", "terraform destroy", check=False)

    assert denied.returncode == 125
    assert "denied by No destroy: no destroy here" in denied.stderr
    assert re.search(r"decision dec_\w+", denied.stderr)
    assert dev.run("policy", "show", "no-destroy", "--body").stdout == rego
    assert [row[0] for row in listed(dev, "policy", "list", "--stack", stack)] == ["no-destroy"]
    dev.run("policy", "detach", "no-destroy", stack)
    assert dev.run("task", "run", stack, "--", "echo destroy").stdout == "destroy\n"


def test_a_policy_that_is_not_acceptable_is_refused_as_compilers_do(dev: Dev, tmp_path: Path) -> None:
    bad = tmp_path / "bad.rego"
    bad.write_text('package spacelift\n\ndeny["x"] { http.send({"method": "get", "url": "http://x"}) }\n')

    refused = dev.run("policy", "create", "bad", str(bad), "--kind", "task", check=False)

    assert refused.returncode == 1
    assert re.search(rf"^{re.escape(str(bad))}:3:\d+: .*http\.send", refused.stderr, re.MULTILINE)
    assert dev.run("policy", "show", "bad", check=False).returncode == 1


def test_a_key_is_made_used_listed_and_revoked(dev: Dev) -> None:
    made = dev.run("key", "create", "Ci Bot", "--machine", "--team", "ops", "--expires-in", "1d")
    key = made.stdout.strip()
    dev.environ["INTERLOCK_API_KEY"] = key
    try:
        caller = json.loads(dev.run("whoami", "-o", "json").stdout)
        refused = dev.run("audit", "list", check=False)
    finally:
        del dev.environ["INTERLOCK_API_KEY"]

    assert (caller["login"], caller["teams"], caller["machine"]) == ("ci-bot", ["ops"], True)
    assert refused.returncode == 1  # admins only
    assert key not in dev.run("key", "list").stdout
    dev.run("key", "revoke", key.split(".")[0])
    assert "ci-bot" not in dev.run("key", "list").stdout
    assert "ci-bot" in dev.run("key", "list", "--all").stdout


def test_a_locked_stack_refuses_others_and_says_whom_to_ask(dev: Dev, stack: str, tmp_path: Path) -> None:
    (tmp_path / "a.rego").write_text('package spacelift\n\nwrite { input.session.login == "bo" }\n')
    dev.run("policy", "create", "writers", str(tmp_path / "a.rego"), "--kind", "access")
    dev.run("policy", "attach", "writers", stack)
    key = dev.run("key", "create", "bo").stdout.strip()
    dev.run("stack", "lock", stack, "--note", "a migration")
    dev.environ["INTERLOCK_API_KEY"] = key
    try:
        refused = dev.run("task", "run", stack, "--", "true", check=False)
    finally:
        del dev.environ["INTERLOCK_API_KEY"]

    assert refused.returncode == 125
    assert "by admin: a migration" in refused.stderr
    assert f"interlock stack unlock {stack}" in refused.stderr
    dev.run("stack", "unlock", stack)


def test_a_pool_and_its_tokens(dev: Dev) -> None:
    dev.run("pool", "create", "Big", "--memory", "512M", "--cpus", "0.5", "--network", "none")
    token = dev.run("pool", "token", "create", "big", "--name", "one").stdout.strip()
    dev.run("pool", "update", "big", "--pids", "100")

    shown = dev.run("pool", "show", "big").stdout

    assert "memory\t536870912 bytes\n" in shown
    assert "pids\t100\n" in shown
    token_id = token.split(".")[0]
    assert [row[:2] for row in listed(dev, "pool", "token", "list", "big")] == [[token_id, "one"]]
    dev.run("pool", "token", "revoke", token_id)
    dev.run("pool", "delete", "big", "--yes")
    assert [row[0] for row in listed(dev, "pool", "list")] == ["public"]


def test_the_runner_is_listed_as_ready(dev: Dev) -> None:
    assert [row[2:4] for row in listed(dev, "runner", "list")] == [["public", "ready"]]


def test_the_audit_log_is_intact_and_grows_from_its_head(dev: Dev, stack: str) -> None:
    head = dev.run("audit", "verify").stdout.strip()
    dev.run("stack", "lock", stack)
    dev.run("stack", "unlock", stack)

    assert dev.run("audit", "verify", "--known-head", head).returncode == 0
    assert dev.run("audit", "verify", "--known-head", "1:" + "0" * 64, check=False).returncode == 1
    actions = [row[2] for row in listed(dev, "audit", "list", "--stack", stack, "--limit", "2")]
    assert actions == ["stack.unlocked", "stack.locked"]


def test_login_tries_the_key_and_stores_it_as_a_profile(dev: Dev, tmp_path: Path) -> None:
    address = (dev.data_dir / "address").read_text().strip()
    key = dev.run("key", "create", "profile owner").stdout.strip()

    wrong = dev.run("--profile", "mine", "login", address, stdin="key_1.wrong", check=False)
    dev.run("--profile", "mine", "login", address, "--keep-default", stdin=key)

    assert wrong.returncode == 1
    assert "profile-owner" in dev.run("--profile", "mine", "whoami").stdout
    assert "admin" in dev.run("whoami").stdout
    profiles = Path(dev.environ["INTERLOCK_PROFILES_FILE"])
    assert profiles.stat().st_mode & 0o777 == 0o600
    dev.run("profile", "delete", "mine")


def test_a_runner_by_hand_needs_a_token_and_says_where_from(dev: Dev) -> None:
    refused = dev.run("runner", check=False)

    assert refused.returncode != 0
    assert "INTERLOCK_" in refused.stderr


def test_limits_are_set_listed_and_unset(dev: Dev) -> None:
    said = dev.run("limit", "set", "caller", "ci-bot", "--max-active", "4", "--max-queued", "1000").stderr
    assert "caller ci-bot: at most 4 active, at most 1000 wait" in said
    dev.run("limit", "set", "stack", "*", "--queue-timeout", "90m")

    assert listed(dev, "limit", "list") == [
        ["caller", "ci-bot", "0", "4", "1000", ""],
        ["stack", "*", "", "", "", "90m"],
    ]
    dev.run("limit", "unset", "caller", "ci-bot", "--yes")
    dev.run("limit", "unset", "stack", "*", "--yes")
    assert dev.run("limit", "list").stdout == ""


def test_a_limit_that_a_kind_does_not_have_is_refused_with_what_it_has(dev: Dev) -> None:
    refused = dev.run("limit", "set", "pool", "public", "--max-queued", "1", check=False)
    assert refused.returncode == 1
    assert "a pool has none; it has max_active" in refused.stderr


@pytest.mark.parametrize("noun", ["stack", "policy", "pool", "limit", "key", "runner", "audit", "task"])
def test_every_list_is_json_where_asked(dev: Dev, noun: str) -> None:
    assert isinstance(json.loads(dev.run(noun, "list", "--output", "json").stdout), list)


def test_the_shell_is_offered_stacks(dev: Dev, stack: str) -> None:
    asked = {
        "_INTERLOCK_COMPLETE": "complete_bash",
        "COMP_WORDS": f"interlock stack show {stack[:-1]}",
        "COMP_CWORD": "3",
        "_TYPER_COMPLETE_ARGS": f"interlock stack show {stack[:-1]}",
    }
    dev.environ |= asked
    try:
        offered = dev.run(check=False).stdout.split()
    finally:
        for name in asked:
            del dev.environ[name]

    assert stack in offered
