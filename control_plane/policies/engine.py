"""Policies as the rest of the control plane sees them: check a text, load it, decide. Everything fails closed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

import structlog

from control_plane.policies import bundle, combine, examination
from control_plane.policies.combine import AccessLevel, Evaluation, PolicyRef
from control_plane.policies.connection import ConnectionLostError
from control_plane.policies.decisions import AccessDecision, TaskDecision
from control_plane.policies.errors import EvaluationFailed, OpaUnavailable, PolicyRefused
from control_plane.policies.evaluate import Evaluator, Ledger
from control_plane.policies.examination import Examiner
from control_plane.policies.external_opa import ExternalOpa
from control_plane.policies.inputs import (
    Document,
    RequestInfo,
    SessionInfo,
    StackInfo,
    access_input,
    with_command,
)
from control_plane.policies.opa import DEFAULT_DEADLINE_S, Opa, SupervisedOpa
from control_plane.policies.questions import Question
from control_plane.policies.trial import Trial
from policies.workbench import guessing, prints, rewriting, upload
from policies.workbench.compiler import CompiledPolicy, Compiler, over_limit
from policies.workbench.findings import Finding, TextRefusedError
from policies.workbench.kinds import Kind
from policies.workbench.prints import Print
from policies.workbench.regal import find_regal
from policies.workbench.toolchain import Toolchain, ToolLimitError, find_opa

log = structlog.get_logger(__name__)

# A change waits this long for the OPA that holds it: 10 000 policies take 4 s, and OPA may be away.
_CHANGE_TIMEOUT_S = 30.0
_STACKS_PER_QUERY = 100


@dataclass(frozen=True)
class LoadedPolicy:
    """One policy as it is stored. `module` is `CompiledPolicy.module`; `revision` counts its texts from 1."""

    id: str
    revision: int
    module: str


class PolicyEngine:
    """One per control plane, on its event loop. It keeps what OPA should hold, and OPA holds that.

    The database comes first: commit a change, then `put` or `remove` it. Between the two, a decision that asks
    for the new revision waits for it (within the deadline), and is refused if it does not come.
    """

    def __init__(
        self,
        opa: Opa,
        compiler: Compiler,
        *,
        sanitizer_key: str,
        deadline_s: float = DEFAULT_DEADLINE_S,
        linter: Path | None = None,
        examination_memory_bytes: int = examination.DEFAULT_MEMORY_BYTES,
    ) -> None:
        self._opa = opa
        self._linter = linter
        self._compiler = compiler
        self._sanitizer_key = sanitizer_key
        self._deadline_s = deadline_s
        self._modules: dict[str, str] = {}
        self._change = asyncio.Event()
        examiner = Examiner(
            compiler.tools.opa,
            self._contents_of,
            deadline_s=deadline_s,
            memory_bytes=examination_memory_bytes,
            author_line=self._author_line,
        )
        self._evaluator = Evaluator(
            opa, examiner, deadline_s=deadline_s, change=lambda: self._change, author_line=self._author_line
        )

    @classmethod
    def from_environment(
        cls,
        *,
        sanitizer_key: str,
        deadline_s: float = DEFAULT_DEADLINE_S,
        environment: Mapping[str, str] = os.environ,
    ) -> PolicyEngine:
        """With the OPA that INTERLOCK_OPA_URL (and INTERLOCK_OPA_TOKEN) name, else with one of its own.

        Raises:
            OpaNotFoundError: there is no `opa` command, which checks need in either case.
            RegalError: INTERLOCK_REGAL names no program.
            ValueError: INTERLOCK_OPA_URL is no URL.
        """
        binary = find_opa(environment)
        opa: Opa
        if url := environment.get("INTERLOCK_OPA_URL"):
            opa = ExternalOpa(url, token=environment.get("INTERLOCK_OPA_TOKEN"), deadline_s=deadline_s)
        else:
            opa = SupervisedOpa(binary, deadline_s=deadline_s)
        # On PATH alone it does not count: it makes uploads slower.
        linter = find_regal(environment) if environment.get("INTERLOCK_REGAL") else None
        return cls(
            opa,
            Compiler(Toolchain(binary)),
            sanitizer_key=sanitizer_key,
            deadline_s=deadline_s,
            linter=linter,
        )

    async def start(self, policies: Iterable[LoadedPolicy]) -> None:
        """Returns when OPA decides with just these.

        Raises:
            OpaUnavailable: OPA does not start.
        """
        self._modules = {policy.id: _rendered(policy) for policy in policies}
        await self._opa.start(lambda: bundle.Contents(self._sanitizer_key, dict(self._modules)))

    async def stop(self) -> None:
        await self._evaluator.stop()
        await self._opa.stop()

    def report_to(self, ledger: Ledger) -> None:
        """Where policies are noted that use more time or memory than they may."""
        self._evaluator.ledger = ledger

    async def check(
        self,
        kind: Kind,
        text: str,
        filename: str = "policy.rego",
        *,
        tests: Mapping[str, str] | None = None,
        is_linted: bool = False,
    ) -> CompiledPolicy:
        """Everything that an upload needs, without changing anything; `tests` are texts by file name. `is_linted`: with
        Regal's advice, where there is one.

        Raises:
            PolicyRefused: with findings at the author's lines.
        """
        try:
            linter = self._linter if is_linted else None
            return await upload.accepted(self._compiler, kind, text, filename, tests or {}, linter)
        except TextRefusedError as refused:
            raise PolicyRefused(refused.findings) from refused

    async def guess(self, text: str, filename: str) -> Kind:
        """The kind that a text says it is of: by an annotation, its rules, or its folder's name.

        Raises:
            PolicyRefused: it does not say, or does not parse.
        """
        try:
            module = await self._compiler.parse(text, filename)
        except TextRefusedError as refused:
            raise PolicyRefused(refused.findings) from refused
        except ToolLimitError as error:
            raise PolicyRefused([over_limit(error, filename)]) from error
        known = guessing.kind_of(module, filename)
        if known is None:
            raise PolicyRefused([guessing.unknown(module, filename)])
        return known

    async def prints(self, kind: Kind, text: str, document: Document) -> list[Print]:
        """What a text that was once accepted prints about an input; nothing where it would not be accepted any more."""
        if "print" not in text:
            return []
        try:
            compiled = await self._compiler.compile(kind, text, "policy.rego")
            return await prints.prints(
                self._compiler.tools, compiled, document, sanitizer_key=self._sanitizer_key
            )
        except (TextRefusedError, ToolLimitError) as error:
            log.warning("policy.prints_unknown", cause=str(error))
            return []

    def trial(self, policy: CompiledPolicy, file: str) -> AbstractAsyncContextManager[Trial]:
        """A text that is not stored, in an OPA of its own: what is decided meanwhile does not wait for it."""
        return Trial.opened(
            self._compiler.tools.opa,
            policy,
            file,
            sanitizer_key=self._sanitizer_key,
            deadline_s=self._deadline_s,
        )

    async def ensure_available(self) -> None:
        """To be called before a change is committed, so that it is refused as a whole while OPA is away.

        Raises:
            OpaUnavailable: OPA does not answer.
        """
        try:
            async with asyncio.timeout(self._deadline_s):
                connection = await self._opa.connected()
                if await connection.is_healthy():
                    return
                self._opa.suspect(connection)
        except (TimeoutError, ConnectionLostError):
            pass
        raise OpaUnavailable("it is not running")

    async def put(self, policy: LoadedPolicy) -> None:
        """Load a new policy or revision; every decision that begins after the return uses it.

        Raises:
            OpaUnavailable: OPA is away; it will hold the policy once it is back.
            PolicyRefused: OPA cannot load what `check` let pass. It is left out: whoever needs it is refused.
        """
        self._modules[policy.id] = _rendered(policy)
        left_out = await self._renew()
        if policy.id in left_out:
            cause = left_out[policy.id]
            log.error("policy.not_loaded", policy_id=policy.id, revision=policy.revision, cause=cause)
            raise PolicyRefused([Finding("", 0, 0, f"OPA cannot load it: {cause}")])
        log.info("policy.loaded", policy_id=policy.id, revision=policy.revision)

    async def remove(self, policy_id: str) -> None:
        """Unload a policy. A decision that still asks for it is refused.

        Raises:
            OpaUnavailable: OPA is away; it will be without the policy once it is back.
        """
        self._modules.pop(policy_id, None)
        await self._renew()
        log.info("policy.removed", policy_id=policy_id)

    async def hold(self, policies: Iterable[LoadedPolicy]) -> None:
        """Make OPA decide with just these, as `start` does; for changes that another replica made.

        Raises:
            OpaUnavailable: OPA is away; it will hold them once it is back.
        """
        wanted = {policy.id: _rendered(policy) for policy in policies}
        if wanted != self._modules:
            self._modules = wanted
            await self._renew()
            log.info("policy.set_loaded", policies=len(wanted))

    async def decide_task(
        self,
        request: RequestInfo,
        session: SessionInfo,
        stack: StackInfo,
        command: str,
        *,
        access: Sequence[PolicyRef],
        task: Sequence[PolicyRef],
    ) -> TaskDecision:
        """Access and task policies together, in one query. Admins skip the access policies only.

        Raises:
            EvaluationFailed, OpaUnavailable, PoliciesChanged: no decision, so no; see `Evaluator.evaluate`.
        """
        access_question = _access_question(request, session, stack, access)
        document = with_command(access_question.document, command)
        try:
            said_of_access, said_of_task = await self._evaluator.evaluate(
                [access_question, Question(Kind.TASK, document, task)]
            )
            decided = _access_decision(session, access_question, said_of_access)
            if decided.level is not AccessLevel.WRITE:
                return TaskDecision(decided, document)
            return TaskDecision(decided, document, combine.denials(said_of_task), said_of_task)
        except EvaluationFailed:
            # Who has no access learns nothing about the stack's task policies.
            decided = await self.decide_access(request, session, stack, access)
            if decided.level is not AccessLevel.WRITE:
                return TaskDecision(decided, document)
            raise

    async def ask(self, questions: Sequence[Question]) -> list[list[Evaluation]]:
        """What the policies of each question say, in order, without combining it. Raises as `decide_task`."""
        return await self._evaluator.evaluate(questions)

    async def ask_each(self, questions: Sequence[Question]) -> list[list[Evaluation] | EvaluationFailed]:
        """As `ask`; a failure of one question leaves the others their answers."""
        return await self._evaluator.evaluate_each(questions)

    async def decide_access(
        self, request: RequestInfo, session: SessionInfo, stack: StackInfo, attached: Sequence[PolicyRef]
    ) -> AccessDecision:
        """Raises as `decide_task`."""
        question = _access_question(request, session, stack, attached)
        [said] = await self._evaluator.evaluate([question])
        return _access_decision(session, question, said)

    async def decide_access_to_all(
        self,
        request: RequestInfo,
        session: SessionInfo,
        stacks: Sequence[tuple[StackInfo, Sequence[PolicyRef]]],
    ) -> list[AccessDecision]:
        """For each stack with its attached policies, in order. One stack's failure hides that stack only.

        Raises:
            OpaUnavailable, PoliciesChanged: as `decide_task`.
        """
        questions = [_access_question(request, session, stack, attached) for stack, attached in stacks]
        decisions = []
        for start in range(0, len(questions), _STACKS_PER_QUERY):
            some = questions[start : start + _STACKS_PER_QUERY]
            said = await self._evaluator.evaluate_each(some)
            decisions += [_access_or_hidden(session, *pair) for pair in zip(some, said, strict=True)]
        return decisions

    async def _renew(self) -> Mapping[str, str]:
        try:
            async with asyncio.timeout(_CHANGE_TIMEOUT_S):
                left_out = await self._opa.renew()
        except TimeoutError as error:
            raise OpaUnavailable("it is not running") from error
        self._announce_change()
        return left_out

    def _announce_change(self) -> None:
        self._change.set()
        self._change = asyncio.Event()

    def _contents_of(self, policy_ids: frozenset[str]) -> bundle.Contents:
        modules = {policy_id: self._modules[policy_id] for policy_id in policy_ids & self._modules.keys()}
        return bundle.Contents(self._sanitizer_key, modules)

    def _author_line(self, policy_id: str, line: int) -> int:
        return rewriting.author_line(self._modules.get(policy_id, ""), line)


def _rendered(policy: LoadedPolicy) -> str:
    return rewriting.render(policy.module, policy.id, policy.revision)


def _access_question(
    request: RequestInfo, session: SessionInfo, stack: StackInfo, attached: Sequence[PolicyRef]
) -> Question:
    return Question(Kind.ACCESS, access_input(request, session, stack), () if session.admin else attached)


def _access_decision(session: SessionInfo, question: Question, said: Sequence[Evaluation]) -> AccessDecision:
    level = AccessLevel.WRITE if session.admin else combine.access_level(said)
    return AccessDecision(level, question.document, said)


def _access_or_hidden(
    session: SessionInfo, question: Question, said: Sequence[Evaluation] | EvaluationFailed
) -> AccessDecision:
    try:
        if isinstance(said, EvaluationFailed):
            raise said
        return _access_decision(session, question, said)
    except EvaluationFailed as failure:
        log.warning("policy.hides_stack", policy_id=failure.policy_id, cause=failure.cause)
        return AccessDecision(AccessLevel.NONE, question.document, failure=failure)
