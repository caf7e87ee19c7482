"""What bad input gets: the expected error of each, and another stack's decisions go on all the while."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from control_plane import errors
from control_plane.identity.api_key import ApiKey
from control_plane.policies import combine, records
from control_plane.policies.attaching import Attachments
from control_plane.policies.combine import Approval
from control_plane.policies.errors import EvaluationFailed, LoginDenied, OpaUnavailable, PolicyRefused
from control_plane.policies.inputs import RunInfo, approval_input
from control_plane.policies.login import LoginJudge
from control_plane.policies.questions import Question
from control_plane.storage.database import Database
from interlock.v1 import policy_pb2
from interlock.v1 import policy_service_pb2 as rpc
from policies.workbench.compiler import Compiler
from policies.workbench.kinds import Kind
from tests.databases import Databases
from tests.integration.policies.house import ANN, DENY_NOTHING, STACK
from tests.integration.policies.keep import ADMIN, ENDLESS, WITHIN_S, Keep, replica

_numbers = itertools.count(1)


@dataclass
class Others:
    """Somebody who asks about another stack again and again."""

    right: int = 0
    wrong: list[object] = field(default_factory=list)
    # Refused, since the machine was too slow to answer in time.
    late: int = 0

    async def went_on(self, after: int) -> None:
        """Returns once they had a right answer that was not there before, and no wrong one ever."""
        async with asyncio.timeout(WITHIN_S):
            while self.right <= after:
                await asyncio.sleep(0.005)
        assert self.wrong == []


@pytest.fixture(scope="module")
async def keep(databases: Databases, opa_path: Path, compiler: Compiler) -> AsyncIterator[Keep]:
    with databases.migrated("sqlite") as url:
        db = Database(url)
        async with replica(db, opa_path, compiler, deadline_s=1.0, memory_bytes=256 << 20) as made:
            await made.create('package a\ndeny contains "no" if request.command == "rm"\n', "others")
            yield made
        db.close()


@pytest.fixture(scope="module")
async def asking(keep: Keep) -> AsyncIterator[Others]:
    others = Others()

    async def ask() -> None:
        for command in itertools.cycle(["rm", "ls"]):
            try:
                decision = await keep.house.task(*await keep.policies("others"), command=command)
            except OpaUnavailable:
                others.late += 1
                continue
            except errors.DomainError as error:
                others.wrong.append(error)
                return
            if decision.messages == (["no"] if command == "rm" else []):
                others.right += 1
            else:
                others.wrong.append(decision)
            await asyncio.sleep(0.01)

    task = asyncio.create_task(ask())
    yield others
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@pytest.fixture(autouse=True)
async def others(asking: Others) -> AsyncIterator[Others]:
    """Each of these tests proves that they go on."""
    before = asking.right
    yield asking
    await asking.went_on(before)


def rule(body: str) -> str:
    """`body` is at line 4."""
    return f'package a\n\ndeny contains "x" if {{\n\t{body}\n}}\n'


NO_BUILT_IN = "the built-in function {} is not available to policies"
OWN_DATA = "a policy cannot read `data` outside of its own package"
# A text; the line of its finding, 0 where it is about the whole; what the finding says.
REFUSED: dict[str, tuple[str, int, str]] = {
    "an empty text": ("", 0, "the policy is empty"),
    "a blank text": (" \n\t\n", 0, "the policy is empty"),
    "10 MB of text": (f"package a\n# {'x' * (10 << 20)}\n", 0, "at most 262144 are allowed"),
    "deep arrays": (rule("x := " + "[" * 100_000 + "]" * 100_000), 4, "max parsing recursion depth exceeded"),
    "deep parentheses": (
        rule("x := " + "(" * 100_000 + "1" + ")" * 100_000), 4, "max parsing recursion depth exceeded",
    ),
    "the package system.authz": (
        "package system.authz\nallow := true\n", 1, "the package system.authz is reserved",
    ),
    "the package data.interlock": (f"package data.interlock\n{DENY_NOTHING[18:]}", 1, "is reserved"),
    "the package interlock": (f"package interlock\n{DENY_NOTHING[18:]}", 1, "is reserved"),
    "the dispatcher's own package": (
        "package interlock.dispatcher\ndecisions := {}\ndeny contains 1 if true\n", 1, "is reserved",
    ),
    "what the dispatcher goes by": (
        'package a\ninterlock_identity := {"kind": "task", "revision": 9}\n', 2, "names that begin with interlock_",
    ),
    "an import of another policy": ("package a\nimport data.others\ndeny contains others.x if true\n", 2, OWN_DATA),
    "an import of another policy as it is loaded": (
        'package a\nimport data.interlock.policies["on-others"] as others\n', 2, OWN_DATA,
    ),
    "another policy read": (rule('data.interlock.policies["on-others"].deny'), 4, OWN_DATA),
    "another policy replaced": (rule('true with data.interlock.policies["on-others"].deny as set()'), 4, OWN_DATA),
    "http.send": (rule('http.send({"method": "get", "url": "http://127.0.0.1"})'), 4, NO_BUILT_IN.format("http.send")),
    "http.send in brackets": (rule('http["send"]({})'), 4, NO_BUILT_IN.format("http.send")),
    "http.send by with": (rule("count([]) with count as http.send"), 4, "is unsafe"),
    "http.send replaced by with": (rule("true with http.send as 1"), 4, "with keyword target must reference existing"),
    "http.send behind an import": (
        'package a\nimport input.request as http\ndeny contains "x" if http.send({})\n', 3, "undefined function",
    ),
    "opa.runtime": (rule("opa.runtime().env.PATH"), 4, NO_BUILT_IN.format("opa.runtime")),
    "opa.runtime as an argument": (rule("count([opa.runtime()]) > 0"), 4, NO_BUILT_IN.format("opa.runtime")),
    "net.lookup_ip_addr in a function": (
        'package a\nf(x) := net.lookup_ip_addr(x)\ndeny contains "x" if f("a")\n', 2,
        NO_BUILT_IN.format("net.lookup_ip_addr"),
    ),
    "rego.parse_module": (rule('rego.parse_module("a", "package a")'), 4, NO_BUILT_IN.format("rego.parse_module")),
    "trace": (rule('trace("x")'), 4, NO_BUILT_IN.format("trace")),
    "trace that is negated": (rule('not trace("x")'), 4, NO_BUILT_IN.format("trace")),
    "trace in v0": ('package a\ndeny["x"] {\n\ttrace("x")\n}\n', 3, NO_BUILT_IN.format("trace")),
    "time.now_ns": (rule("time.now_ns() > 0"), 4, NO_BUILT_IN.format("time.now_ns")),
    "time.now_ns in a comprehension": (rule("[x | x := time.now_ns()]"), 4, NO_BUILT_IN.format("time.now_ns")),
    "time.now_ns as the key of a partial object": (
        'package a\nm[time.now_ns()] := 1 if true\ndeny contains "x" if m\n', 2, NO_BUILT_IN.format("time.now_ns"),
    ),
    "time.now_ns in an else": (
        'package a\nf := 1 if false else := time.now_ns()\ndeny contains "x" if f\n', 2,
        NO_BUILT_IN.format("time.now_ns"),
    ),
    "time.now_ns in a head": (
        'package a\ndeny contains sprintf("%d", [time.now_ns()]) if true\n', 2, NO_BUILT_IN.format("time.now_ns"),
    ),
    "time.now_ns given by with": (rule("time.now_ns() with time.now_ns as 1"), 4, "with keyword target"),
    "a shadow of time.now_ns that is called": (
        'package a\ntime := {"now_ns": 1}\ndeny contains "x" if time.now_ns() == 1\n', 3, "undefined function",
    ),
    "deny as an object": ('package a\ndeny := {"a": 1}\n', 2, "`deny` must be a set of messages"),
    "deny as a number": ("package a\ndeny := 1\n", 2, "`deny` must be a set of messages"),
    "no deny": ("package a\ndenny := 1\n", 1, "must define `deny`"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
async def test_a_bad_text_is_refused_where_it_is_bad_and_changes_nothing(keep: Keep, case: str) -> None:
    text, line, message = REFUSED[case]
    before = await keep.db.read(records.policies_version)

    with pytest.raises(PolicyRefused) as refused:
        await keep.create(text, "bad")

    found = [finding for finding in refused.value.findings if message in finding.message]
    assert [finding.line for finding in found][:1] == [line], refused.value.findings
    assert await keep.db.read(records.policies_version) == before


# Names that only look like what is forbidden: the author's own, and of no use against anybody.
SHADOWS = {
    "a function trace": 'package a\ntrace(x) := x\ndeny contains "own" if trace(1) == 1\n',
    "a variable http": 'package a\ndeny contains "own" if {\n\thttp := {"send": 1}\n\thttp.send == 1\n}\n',
    "a rule time": 'package a\ntime := {"now_ns": 1}\ndeny contains "own" if time.now_ns == 1\n',
    "a rule with the name of a built-in": (
        'package a\ntime.now_ns := 1\ndeny contains "own" if time.now_ns == 1\n'
    ),
    "a function with the name of a built-in": (
        'package a\nhttp.send(x) := x\ndeny contains "own" if http.send(1) == 1\n'
    ),
}


@pytest.mark.parametrize("case", SHADOWS)
async def test_a_name_that_shadows_what_is_forbidden_is_the_authors_own(keep: Keep, case: str) -> None:
    label = f"shadow-{next(_numbers)}"
    await keep.create(SHADOWS[case], label)

    assert (await keep.house.task(*await keep.policies(label))).messages == ["own"]


CONFLICT = 'package a\n\nword := "a" if true\n\nword := "b" if request.command == "ls"\n\ndeny contains word if true\n'
REGEX = """package a

t := concat("", ["a" | some i in numbers.range(1, 200000)])

deny contains "x" if regex.match(`^(((a?){100}){10})*$`, concat("", [t, t, t, t, t, t, t, t, t, t, t, t, t, "b"]))
"""
PRODUCT = """package a

ns := numbers.range(1, 90)

deny contains "x" if {
	count({[a, b, c, d, e] | some a in ns; some b in ns; some c in ns; some d in ns; some e in ns}) == 1
}
"""
# A text that is accepted; why a decision with it is refused.
FAILING: dict[str, tuple[str, str]] = {
    "a comprehension without an end": (ENDLESS, r"it takes more than 1 s"),
    "a comprehension over a product": (PRODUCT, r"it (takes more than 1 s|needs more than 256 MiB of memory)"),
    "a regular expression that blows up": (REGEX, r"it takes more than 1 s"),
    "a regular expression that is too large": (
        rule("regex.match(`(((((a{100}){100}){100}){100}){100})`, request.command)"), r"line 4: .*regex.match",
    ),
    "1 GB of numbers": (
        rule("count(numbers.range(1, 100000000)) == 1"),
        r"it (takes more than 1 s|needs more than 256 MiB of memory)",
    ),
    "a conflict on this input": (CONFLICT, r"line 5: .*rule word produced conflicting values"),
    "deny that comes to an object": ('package a\nx := {"a": 1}\ndeny := x\n', "`deny` is of type object"),
    "deny that comes to a number": ("package a\nx := count([])\ndeny := x\n", "`deny` is of type number"),
    "deny that is undefined": ('package a\ndeny := {"x"} if request.command == "rm"\n', "`deny` is undefined"),
    "deny of numbers": ("package a\ndeny contains 1 if true\n", "must be a set of strings"),
    "deny of objects": ("package a\ndeny contains request if true\n", "must be a set of strings"),
    "a built-in that errs, which without strict errors is only undefined": (
        rule("not to_number(request.command) > 0\n\tfalse"), r"line 4: eval_builtin_error: to_number",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FAILING)
async def test_a_policy_that_cannot_be_evaluated_is_named_with_the_reason(keep: Keep, case: str) -> None:
    text, cause = FAILING[case]
    label = f"failing-{next(_numbers)}"
    made = await keep.create(text, label)
    await keep.create(DENY_NOTHING, f"{label}-neighbour")
    async with asyncio.timeout(WITHIN_S):
        failure = None
        while failure is None:
            policies = [*await keep.policies(label), *await keep.policies(f"{label}-neighbour")]
            # Where the machine is too slow to tell in time, nobody is named yet.
            with contextlib.suppress(OpaUnavailable):
                with pytest.raises(EvaluationFailed, match=cause) as failed:
                    await keep.house.task(*policies)
                failure = failed.value

    assert failure.policy_id == made.id


async def test_a_conflict_on_one_input_leaves_the_others_their_answers(keep: Keep) -> None:
    await keep.create(CONFLICT, "conflict")

    assert (await keep.house.task(*await keep.policies("conflict"), command="pwd")).messages == ["a"]


async def test_a_policy_that_approves_and_rejects_rejects(keep: Keep) -> None:
    await keep.create("package a\napprove := true\nreject := true\n", "torn", Kind.APPROVAL)
    run = RunInfo(id="run_1", type="TASK", state="QUEUED", created_at=1, updated_at=1, creator_session=ANN)
    policies = await keep.policies("torn", Kind.APPROVAL)

    [said] = await keep.house.engine.ask([Question(Kind.APPROVAL, approval_input(run, STACK, []), policies)])

    assert combine.approval(said) is Approval.REJECTED


async def test_a_login_policy_against_everybody_keeps_all_out_but_the_keys_that_can_mend_it(
    keep: Keep,
) -> None:
    made = await keep.create("package a\nallow := true\ndeny := true\n", "login", Kind.LOGIN)
    judge = LoginJudge(keep.db, keep.house.engine, keep.index)
    key = ApiKey("key_2", "Ann", "ann", (), admin=False, machine=False, created_at=1)
    admins = ApiKey("key_1", "Root", "root", (), admin=True, machine=False, created_at=1)

    with pytest.raises(LoginDenied):
        await judge.judge(key, "192.0.2.1")

    assert await judge.judge(admins, "192.0.2.1") is None
    await keep.catalog.delete(ADMIN, made.id, "")
    assert await judge.judge(key, "192.0.2.1") is None


async def of_two_authors(keep: Keep) -> None:
    made = await keep.create(DENY_NOTHING, f"two-{next(_numbers)}")
    texts = [DENY_NOTHING.replace("never", word) for word in ("first", "second")]
    saving = [keep.update(policy_pb2.Policy(id=made.id, etag=made.etag, body=text), "body") for text in texts]
    saved = await asyncio.gather(*saving, return_exceptions=True)
    [failure] = [each for each in saved if isinstance(each, BaseException)]
    [kept] = [each for each in saved if isinstance(each, policy_pb2.Policy)]
    assert (await keep.catalog.get(made.id)).body == kept.body
    assert kept.revision == 2
    raise failure


async def a_rollback_to_anothers_revision(keep: Keep) -> None:
    made = await keep.create(DENY_NOTHING, f"other-{next(_numbers)}")
    changed = await keep.create(DENY_NOTHING, f"changed-{next(_numbers)}")
    await keep.update(policy_pb2.Policy(id=changed.id, description="d"), "description")
    await keep.catalog.rollback(ADMIN, rpc.RollbackPolicyRequest(policy_id=made.id, revision=2))


async def a_rollback_to_a_namesakes_revision(keep: Keep) -> None:
    label = f"namesake-{next(_numbers)}"
    gone = await keep.create(DENY_NOTHING, label)
    await keep.catalog.delete(ADMIN, gone.id, "")
    await keep.create(DENY_NOTHING, label)
    await keep.catalog.rollback(ADMIN, rpc.RollbackPolicyRequest(policy_id=gone.id, revision=1))


async def an_attachment_to_no_stack(keep: Keep) -> None:
    made = await keep.create(DENY_NOTHING, f"attached-{next(_numbers)}")
    attachments = Attachments(keep.db, None, on_change=lambda: None)  # type: ignore[arg-type]  # who attaches reads nothing
    await attachments.attach(ADMIN, made.id, "no-such-stack", shadow=False)


CALLS: dict[str, tuple[Callable[[Keep], Awaitable[None]], type[errors.DomainError], str]] = {
    "an attachment to a stack that is not there": (an_attachment_to_no_stack, errors.NotFound, "no-such-stack"),
    "a rollback to a revision of another policy": (a_rollback_to_anothers_revision, errors.NotFound, "@2"),
    "a rollback to a revision of a deleted policy of the same id": (
        a_rollback_to_a_namesakes_revision, errors.InvalidField, "was of another policy",
    ),
    "two authors who save at once": (of_two_authors, errors.StaleEtag, "changed since you read it"),
}  # fmt: skip


@pytest.mark.parametrize("case", CALLS)
async def test_a_bad_call_is_told_why(keep: Keep, case: str) -> None:
    call, error, message = CALLS[case]

    with pytest.raises(error, match=message):
        await call(keep)
