"""The demo's steps, in order: who types what, and what must come of it."""

import base64
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path

from scripts.demo.player import SYSTEM
from scripts.demo.step import Chapter, Step

APPLY_LATER = "until [ -e /mnt/state/go ]; do sleep 0.1; done; terraform apply -auto-approve"
PRINT_ENCODED = 'for before in "" x xx; do echo "$before$DB_PASSWORD" | base64; done'


def chapters(data: Path, state: Path, image: str, leftovers: Callable[[], Sequence[str]]) -> list[Chapter]:
    """`state` is the folder that containers keep Terraform's state in."""
    password = secrets.token_urlsafe(18)
    return [
        Chapter("Interlock starts", _start(data)),
        Chapter(
            "An admin prepares a stack, two policies and three people's keys",
            _prepare(state, image, password),
        ),
        Chapter("Terraform, one task at a time", _terraform()),
        Chapter("Secrets stay hidden", _secrets(password)),
        Chapter("What the policies refuse", _refusals()),
        Chapter("Two tasks at once", _two_at_once(state)),
        Chapter("A stack that somebody has locked", _lock()),
        Chapter("The record", _record()),
        Chapter("The end", _end(data, leftovers)),
    ]


def _start(data: Path) -> list[Step]:
    return [
        Step(
            title="Control plane, OPA and a runner start in one command",
            command=f"interlock dev --data-dir {data}",
            terminal=SYSTEM,
            until="Ctrl-C here ends all",
            learns=r"(?s)^(?P<admin>key_\S+)$.*listens on (?P<address>\S+)$",
            says=("ready in",),
            expected="it is ready, and has shown the admin's key once",
        ),
        Step(
            title="The runner is there",
            command="interlock runner list",
            learns=r"^(?P<runner>rnr_\w+)",
            says=("rnr_", "ready"),
            expected="a runner of the pool public is ready",
        ),
    ]


def _prepare(state: Path, image: str, password: str) -> list[Step]:
    examples = "policies/examples"
    return [
        Step(
            title="The pool mounts a folder for Terraform's state, since every task gets a fresh container",
            command=f"interlock pool update public --mount {state}:/mnt/state",
            says=("pool public is changed",),
            expected="the pool's containers will see the folder",
        ),
        Step(
            title="An access policy: the teams in a stack's labels may write, everybody may read",
            command=f"interlock policy create 'team label' {examples}/access/team_label.rego --kind access "
            "--label 'autoattach:*'",
            says=("policy team-label is stored",),
            expected="it is stored and counts for every stack",
        ),
        Step(
            title="A task policy: nobody destroys by a task",
            command=f"interlock policy create 'deny destroy' {examples}/task/deny_destroy.rego --kind task "
            "--label 'autoattach:*'",
            says=("policy deny-destroy is stored",),
            expected="it is stored and counts for every stack",
        ),
        *(
            Step(
                title=f"A key for {name}, {what}",
                command=f"interlock key create {name}{options}",
                keeps=name,
                says=(f"for {name}",),
                expected="the key is shown this once, and kept in a variable",
            )
            for name, what, options in (
                ("ann", "of the team network", " --team network"),
                ("bob", "of the team network", " --team network"),
                ("rita", "who only reads", ""),
            )
        ),
        Step(
            title="A stack",
            command=f"interlock stack create network --tool terraform --image {image} --pool public --label team:network",
            says=("stack network is made",),
            expected="it is there",
        ),
        Step(
            title="Its files",
            command="interlock stack push network scripts/demo/network",
            says=("SHA-256",),
            expected="they are uploaded",
        ),
        Step(
            title="Its environment: a plain variable, and a secret that this shell has",
            command="interlock stack env set network TF_VAR_address_range=10.7.0.0/16 --secret-from DB_PASSWORD",
            environ={"DB_PASSWORD": password},
            says=("DB_PASSWORD",),
            hides=(password,),
            expected="both are set, and the secret's value was not an argument",
        ),
    ]


def _terraform() -> list[Step]:
    return [
        Step(
            title="terraform init and apply",
            who="ann",
            command="interlock task run network -- terraform apply -auto-approve",
            says=("has been successfully initialized", "10.7.1.0/24", "Apply complete! Resources: 3 added"),
            expected="init ran first, three resources are made",
        ),
        Step(
            title="terraform state list",
            who="ann",
            command="interlock task run network -- terraform state list",
            says=("terraform_data.gateway", "terraform_data.subnet[0]", "terraform_data.subnet[1]"),
            expected="a fresh container finds the three in the state",
        ),
        Step(
            title="terraform taint",
            who="bob",
            command="interlock task run network -- terraform taint terraform_data.gateway",
            says=("terraform_data.gateway has been marked as tainted",),
            expected="the gateway is tainted",
        ),
        Step(
            title="Without init, Terraform does not know its backend",
            who="ann",
            command="interlock task run network --skip-init -- terraform state list",
            exit_code=1,
            says=("Backend initialization required", "failed: the command ended with exit code 1"),
            expected="it fails, and the exit code is the command's own: 1",
        ),
        Step(
            title="With init, it does",
            who="ann",
            command="interlock task run network -- terraform state list",
            says=("terraform_data.gateway",),
            expected="the same command succeeds",
        ),
    ]


def _secrets(password: str) -> list[Step]:
    return [
        Step(
            title="env",
            who="ann",
            command="interlock task run network --skip-init -- env",
            says=("DB_PASSWORD=***", "TF_VAR_address_range=10.7.0.0/16"),
            hides=(password,),
            expected="the secret shows as ***, the plain variable as it is",
        ),
        Step(
            title="The secret through base64, beginning at each of the three places in a group",
            who="ann",
            command=f"interlock task run network --skip-init -- '{PRINT_ENCODED}'",
            says=("***",),
            hides=(password, *_in_base64(password)),
            expected="hidden each time",
        ),
    ]


def _in_base64(password: str) -> list[str]:
    """What is the same in every text that holds the password, at each place where it can begin."""
    return [base64.b64encode(b"-" * shift + password.encode()).decode()[4:-4] for shift in range(3)]


def _refusals() -> list[Step]:
    return [
        Step(
            title="terraform destroy",
            who="ann",
            command="interlock task run network -- terraform destroy -auto-approve",
            exit_code=125,
            says=("denied by deny destroy: a task must not destroy infrastructure; use a reviewed run",),
            expected="denied, with the policy's message",
        ),
        Step(
            title="A reader triggers a task",
            who="rita",
            command="interlock task run network -- terraform state list",
            exit_code=125,
            says=("rita may read stack 'network', not write to it",),
            expected="refused",
        ),
        Step(
            title="A reader sees what others ran",
            who="rita",
            command="interlock task list --stack network --limit 3",
            says=("ann", "base64"),
            expected="she may",
        ),
    ]


def _two_at_once(state: Path) -> list[Step]:
    first, second = (
        f"interlock task run network -- '{APPLY_LATER}'",
        "interlock task run network -- terraform plan",
    )
    return [
        Step(
            title="A first task takes its time",
            who="ann",
            command=first,
            terminal="first",
            until="interlock: performing",
            learns=r"interlock: (?P<first>run_\w+) on network",
            expected="it performs",
        ),
        Step(
            title="A second one on the same stack",
            who="bob",
            command=second,
            terminal="second",
            until="interlock: waits:",
            says=("waits: {first} is active on the stack",),
            expected="it waits, and says for whom",
        ),
        Step(
            title="Stop the first",
            command="interlock task stop {first}",
            exit_code=1,
            says=("performing", "cannot be stopped"),
            expected="refused: what performs is not stopped",
        ),
        Step(
            title="What the first waits for happens",
            command=f"touch {state}/go",
            expected="done",
        ),
        Step(
            title="The first ends",
            who="ann",
            command=first,
            continues="first",
            says=("1 added, 0 changed, 1 destroyed", "finished, exit code 0"),
            expected="finished; the tainted gateway is replaced",
        ),
        Step(
            title="The second has its turn",
            who="bob",
            command=second,
            continues="second",
            says=("No changes.", "finished, exit code 0"),
            expected="finished; it saw what the first left",
        ),
    ]


def _lock() -> list[Step]:
    return [
        Step(
            title="Bob locks the stack",
            who="bob",
            command="interlock stack lock network --note 'moving state by hand'",
            says=("stack network is locked by you",),
            expected="it is his",
        ),
        Step(
            title="Ann triggers a task",
            who="ann",
            command="interlock task run network -- terraform plan",
            exit_code=125,
            says=("locked", "bob", "moving state by hand"),
            expected="refused, with who has the lock and why",
        ),
        Step(
            title="Bob unlocks it",
            who="bob",
            command="interlock stack unlock network",
            says=("stack network is not locked",),
            expected="it is free",
        ),
    ]


def _record() -> list[Step]:
    return [
        Step(
            title="Who did what",
            command="interlock audit list --action task. --limit 100",
            says=("ann\ttask.created", "bob\ttask.created", "ann\ttask.denied", "rita\ttask.denied"),
            expected="every task and every refusal is there, with its caller",
        ),
        Step(
            title="The record is whole",
            command="interlock audit verify",
            says=("intact",),
            expected="no event is missing, changed or out of order",
        ),
    ]


def _end(data: Path, leftovers: Callable[[], Sequence[str]]) -> list[Step]:
    return [
        Step(
            title="Ctrl-C ends the system",
            command=f"interlock dev --data-dir {data}",
            continues=SYSTEM,
            interrupts=True,
            says=("all has ended",),
            leaves=leftovers,
            expected="it ended, and no process and no container is left",
        ),
    ]
