"""The commands about reviews, decisions, revisions and attachments against the real system, as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

from tests.integration.sdk.running import Dev

RULE = 'package p\nimport rego.v1\ndeny contains "no {0}" if contains(request.command, "{0}")\n'
TWO_EYES = "package p\nimport rego.v1\napprove if count(reviews.current.approvals) > 0\n"
REJECTED = "reject if count(reviews.current.rejections) > 0\n"


def created(dev: Dev, folder: Path, name: str, kind: str, body: str) -> str:
    """The id of a new policy, whose text is in `folder`/NAME.rego."""
    (folder / f"{name}.rego").write_text(body)
    dev.run("policy", "create", name, str(folder / f"{name}.rego"), "--kind", kind)
    return name


def test_a_run_is_approved_and_another_rejected(dev: Dev, stack: str, tmp_path: Path) -> None:
    policy = created(dev, tmp_path, f"eyes-{stack}", "approval", TWO_EYES + REJECTED)
    dev.run("policy", "attach", policy, stack)
    first = dev.run("task", "run", stack, "--detach", "--", "echo approved").stdout.strip()
    assert (
        f"waits\twaits for the approval of policy {policy} (revision 1)"
        in dev.run("task", "show", first).stdout
    )

    approved = dev.run("task", "approve", first, "--note", "fine").stderr

    assert f"approved by policy {policy} (revision 1)" in approved
    assert dev.run("task", "watch", first).stdout == "approved\n"
    shown = dev.run("task", "show", first).stdout
    assert "reviews\tapproved by admin: fine\n" in shown
    assert "states\tpending_review → queued → ready" in shown
    second = dev.run("task", "run", stack, "--detach", "--", "echo rejected").stdout.strip()
    assert "failed, rejected by policy" in dev.run("task", "reject", second).stderr
    assert dev.run("task", "approve", second, check=False).returncode == 1


def test_a_policys_history_is_shown_compared_and_rolled_back(dev: Dev, stack: str, tmp_path: Path) -> None:
    policy = created(dev, tmp_path, f"words-{stack}", "task", RULE.format("one"))
    (tmp_path / "two.rego").write_text(RULE.format("two"))
    dev.run("policy", "update", policy, str(tmp_path / "two.rego"))
    dev.run("policy", "update", policy, "--description", "two words")

    rows = [line.split("\t") for line in dev.run("policy", "history", policy).stdout.splitlines()]
    assert [(row[0], row[2], row[3]) for row in rows] == [
        (f"{policy}@3", "admin", "changed description"),
        (f"{policy}@2", "admin", "changed body"),
        (f"{policy}@1", "admin", "created"),
    ]
    assert "+description: two words" in dev.run("policy", "diff", policy).stdout
    both = dev.run("policy", "diff", policy, "1", f"{policy}@2").stdout.splitlines()
    assert both[:2] == [f"--- {policy}@1", f"+++ {policy}@2"]
    assert [line[0] for line in both if '"no ' in line] == ["-", "+"]
    assert '+deny contains "no two"' in dev.run("policy", "history", policy, "--diff").stdout
    refused = dev.run("policy", "rollback", policy, "other@1", check=False)
    assert "another policy" in refused.stderr
    stale = dev.run("policy", "rollback", policy, "1", "--etag", "1", check=False)
    assert "was changed since you read it" in stale.stderr
    assert "this is revision 4" in dev.run("policy", "rollback", policy, "1").stderr
    assert dev.run("policy", "show", policy, "--body").stdout == RULE.format("one")


def test_where_a_policy_applies_and_why_is_listed_on_both_sides(dev: Dev, stack: str, tmp_path: Path) -> None:
    policy = created(dev, tmp_path, f"where-{stack}", "task", RULE.format("one"))
    dev.run("policy", "attach", policy, stack, "--shadow")

    [row] = [line.split("\t") for line in dev.run("policy", "attached", stack).stdout.splitlines()]
    assert row[:4] == [policy, "task", "1", "shadow"]
    assert row[4].startswith("by hand since 20")
    [row] = [line.split("\t") for line in dev.run("policy", "stacks", policy).stdout.splitlines()]
    assert row[:2] == [stack, "shadow"]


def test_a_shadow_report_and_the_decisions_behind_it(dev: Dev, stack: str, tmp_path: Path) -> None:
    policy = created(dev, tmp_path, f"shadow-{stack}", "task", RULE.format("one"))
    dev.run("policy", "attach", policy, stack, "--shadow")
    dev.run("task", "run", stack, "--detach", "--", "one")

    report = dev.run("policy", "shadow-report", policy).stdout
    assert "decisions\t1\nstricter\t1\n" in report
    assert "message no one\t1\n" in report
    [row] = [line.split("\t") for line in dev.run("decision", "list", "--stack", stack).stdout.splitlines()]
    assert row[2:6] == ["task", stack, "admin", "allowed"]
    shown = dev.run("decision", "show", row[0]).stdout
    assert f'shadow task policy {policy}@1\t{{"deny": ["no one"]}}, would be denied\n' in shown
    seen = json.loads(dev.run("decision", "show", row[0], "--input").stdout)
    assert seen["request"]["command"] == "one"
    [whole] = json.loads(dev.run("decision", "list", "--stack", stack, "--output", "json").stdout)
    assert json.loads(whole["input_json"]) == seen


def test_a_dry_run_says_what_would_happen_and_runs_nothing(dev: Dev, stack: str, tmp_path: Path) -> None:
    policy = created(dev, tmp_path, f"dry-{stack}", "task", RULE.format("one"))
    dev.run("policy", "attach", policy, stack)

    allowed = dev.run("task", "run", stack, "--dry-run", "--", "two")
    denied = dev.run("task", "run", stack, "--dry-run", "--", "one", check=False)

    assert allowed.stdout == (
        f'allowed\tyes\nstate\tqueued\nwhy\tit would be queued\ntask policy {policy}@1\t{{"deny": []}}\n'
    )
    assert denied.returncode == 125
    assert f"why\tdenied by {policy}: no one\n" in denied.stdout
    assert dev.run("task", "list", "--stack", stack).stdout == ""


def test_a_policy_is_evaluated_on_what_is_on_record(dev: Dev, stack: str, tmp_path: Path) -> None:
    policy = created(dev, tmp_path, f"asks-{stack}", "task", RULE.format("one") + "sample if true\n")
    dev.run("policy", "attach", policy, stack)
    run = dev.run("task", "run", stack, "--detach", "--", "two").stdout.strip()
    dev.run("task", "run", stack, "--detach", "--", "one", check=False)
    (tmp_path / "new.rego").write_text(RULE.format("two"))
    (tmp_path / "read.rego").write_text("package p\nimport rego.v1\nread if not input.request.command\n")
    samples = dev.run("decision", "list", "--stack", stack, "--samples").stdout.splitlines()
    [denied] = [line.split("\t")[0] for line in samples if "denied" in line]

    of_run = dev.run("policy", "eval", str(tmp_path / "new.rego"), "--run", run)
    of_sample = dev.run("policy", "eval", str(tmp_path / f"{policy}.rego"), "--sample", denied)
    of_access = dev.run(
        "policy", "eval", str(tmp_path / "read.rego"), "--sample", denied, "--kind", "access", check=False
    )

    assert "new.rego denies\n" in of_run.stdout
    assert 'deny\t["no two"]' in of_run.stdout
    assert 'deny\t["no one"]' in of_sample.stdout
    assert "undefined field 'command'" in of_access.stdout
    other = dev.run("policy", "eval", str(tmp_path / "new.rego"), "--run", "run_" + "0" * 26, check=False)
    assert other.returncode == 1
    assert "no policy of kind task was asked about run_0" in other.stderr


def test_a_policy_whose_test_fails_is_not_stored(dev: Dev, tmp_path: Path) -> None:
    (tmp_path / "p.rego").write_text(RULE.format("one"))
    (tmp_path / "p_test.rego").write_text(
        'package p\nimport rego.v1\n\ntest_two if "no two" in deny with input.request.command as "two"\n'
    )
    create = ["policy", "create", "tested", str(tmp_path / "p.rego"), "--kind", "task"]

    refused = dev.run(*create, "--test", str(tmp_path / "p_test.rego"), check=False)

    assert refused.returncode == 1
    assert f"{tmp_path / 'p_test.rego'}:4: the test test_two failed" in refused.stderr
    assert "tested" not in dev.run("policy", "list").stdout
