"""Judges the history of a soak. Pure: each violation is one sentence, and names the run and the promise."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import pairwise

from tests.soak.history import Answer, Execution, History, Record

FINAL = frozenset({"FINISHED", "FAILED", "STOPPED", "DISCARDED"})
ACTIVE = frozenset({"READY", "PREPARING", "INITIALIZING", "PERFORMING"})
# The kernel's clock for files goes in ticks and stands a little behind the one that the record is written by.
_TICK_S = 0.02
# Of init whose container is ended while it waits for a child.
_SHELLS_LAST_WORD = b"Terminated\n"
# The engine may be going down a moment before it is seen to.
_GOING_DOWN_S = 0.3


def violations(history: History) -> list[str]:
    """Empty where every promise was kept."""
    return [
        *history.complaints,
        *_calls(history),
        *_slots(history),
        *_executions(history),
        *_ends(history),
        *_logs(history),
        *_audit(history),
        *(f"a container was left over: {name}" for name in history.containers_left),
    ]


def _calls(history: History) -> Iterator[str]:
    """Acknowledged calls are remembered, and each task exists once."""
    of_key = defaultdict(set)
    known = {record.run_id: record for record in history.records}
    commands = Counter(record.command for record in history.records)
    for created in history.created:
        of_key[created.command.key].add(created.run_id)
        if created.answer is Answer.DONE and created.run_id not in known:
            yield f"{created.run_id} was acknowledged and is not there ({created.command.key})"
        if created.answer is Answer.REFUSED and commands[created.command.text]:
            yield f"{created.command.key} was refused and is there"
    for key, run_ids in of_key.items():
        if len(run_ids - {""}) > 1:
            yield f"the same request {key} gave several runs: {', '.join(sorted(run_ids))}"
    yield from (f"a task exists {count} times: {text[:20]}" for text, count in commands.items() if count > 1)
    expected = {created.command.text for created in history.created}
    yield from (f"nobody asked for {text[:20]}" for text in commands if text not in expected)


def _slots(history: History) -> Iterator[str]:
    """One active run per stack, by the record; the fencing token grows."""
    held = defaultdict(list)
    for record in history.records:
        for (state, since), (after, until) in pairwise(record.steps):
            if state == "READY" and after == "QUEUED":
                continue
            if state in ACTIVE:
                held[record.stack_id].append((since, until, record))
    for intervals in held.values():
        intervals.sort(key=lambda each: each[:2])
        for (_, until, one), (since, _, other) in pairwise(intervals):
            if since < until and one is not other:
                yield f"{one.run_id} and {other.run_id} were active at once on {one.stack_id}"
            if one is not other and one.fence >= other.fence:
                yield f"the fencing token of {one.stack_id} did not grow from {one.run_id} to {other.run_id}"
    yield from (f"{run_id} still holds the slot of {stack}" for stack, run_id in history.held_slots.items())


def _executions(history: History) -> Iterator[str]:
    """From outside: no two at once on a stack, none twice, none without its gate, none behind its slot's end."""
    records = {_key_of(record): record for record in history.records}
    of_stack = defaultdict(list)
    for each in history.executions:
        of_stack[each.stack_id].append(each)
        yield from _execution(history, each, records.get(each.key))
    for stack_id, executions in of_stack.items():
        executions.sort(key=lambda each: each.began)
        for one, other in pairwise(executions):
            if other.began < one.last_life and not _is_abandoned(history, records.get(one.key)):
                yield f"{one.key} and {other.key} were performed at once on {stack_id}"
        yield from _book(history, stack_id, executions)


def _execution(history: History, seen: Execution, record: Record | None) -> Iterator[str]:
    if record is None:
        yield f"{seen.key} was performed and there is no such run"
        return
    performing_since = record.since("PERFORMING")
    if performing_since is None:
        yield f"{seen.key} was performed, but its gate was never opened: {record.run_id} is {record.state}"
    elif seen.began < performing_since - _TICK_S:
        yield f"{seen.key} was performed before its gate was opened"
    if record.run_id in history.stopped:
        yield f"{seen.key} was performed though its stop had been acknowledged"
    ended = record.steps[-1][1]
    if record.state in FINAL and ended < seen.last_life and not _is_abandoned(history, record):
        yield f"{seen.key} lived {seen.last_life - ended:.3f} s longer than it held the slot"


def _book(history: History, stack_id: str, executions: list[Execution]) -> Iterator[str]:
    lines = [line.split() for line in history.books.get(stack_id, ())]
    begun = Counter(line[1] for line in lines if line[0] == "begin")
    yield from (f"{key} was performed {times} times" for key, times in begun.items() if times > 1)
    counts = [int(line[3]) for line in lines if line[0] == "end"]
    if any(later <= earlier for earlier, later in pairwise(counts)):
        yield f"executions on {stack_id} counted over each other: {counts}"
    if counts and not history.containers_were_killed and counts != list(range(1, len(executions) + 1)):
        yield f"of {len(executions)} executions on {stack_id} these counted: {counts}"


def _ends(history: History) -> Iterator[str]:
    """Every run ends, and its end is what happened outside."""
    executions = {each.key: each for each in history.executions}
    commands = {created.command.text: created.command for created in history.created}
    for record in history.records:
        states = [state for state, _ in record.steps]
        if record.state not in FINAL:
            yield f"{record.run_id} never ended: it is {record.state}"
        if states.count("PERFORMING") > 1 or set(states[:-1]) & FINAL:
            yield f"{record.run_id} went an impossible way: {', '.join(states)}"
        if record.command not in commands:
            continue
        command = commands[record.command]
        seen = executions.get(command.key)
        has_ended = seen is not None and seen.count is not None
        success = (
            ("FINISHED", "UNSPECIFIED", 0)
            if not command.exit_code
            else ("FAILED", "COMMAND", command.exit_code)
        )
        is_success = (record.state, record.failure, record.exit_code) == success
        was_lost = history.containers_were_killed or _is_abandoned(history, record)
        was_lost = was_lost or (seen is not None and _ended_without_engine(history, seen))
        if has_ended and not is_success and not was_lost:
            yield f"{command.key} came to its end, but is {record.state} ({record.failure}, {record.exit_code})"
        if is_success and not has_ended:
            yield f"{command.key} is {record.state} and did not come to its end"
        if "PERFORMING" in states and not has_ended and not was_lost:
            yield f"{command.key} passed its gate and was cut off: {record.state} ({record.failure})"


def _logs(history: History) -> Iterator[str]:
    """No byte lost, doubled or changed: as stored, and as each watcher saw it."""
    commands = {created.command.text: created.command for created in history.created}
    stored = {record.run_id: record.output for record in history.records}
    for record in history.records:
        if record.command not in commands:
            continue
        expected = commands[record.command].output
        is_whole = record.state == "FINISHED" or record.failure == "COMMAND"
        output = record.output.removesuffix(_SHELLS_LAST_WORD) if record.state == "STOPPED" else record.output
        if output != (expected if is_whole else expected[: len(output)]):
            yield f"the log of {record.run_id} is wrong from byte {_first_difference(record.output, expected)}"
        if record.output_sha256 and record.output_sha256 != hashlib.sha256(record.output).hexdigest():
            yield f"the log of {record.run_id} does not have its recorded SHA-256"
    never_performed = {
        record.run_id
        for record in history.records
        if "PERFORMING" not in {state for state, _ in record.steps}
    }
    for run_id, output in history.watched:
        if run_id not in stored:
            continue
        # What was seen before it was durable is lost with a runner that is lost before the gate: nobody sends it again.
        is_unsent = run_id in never_performed and output.startswith(stored[run_id])
        if output != stored[run_id] and not is_unsent:
            at = _first_difference(output, stored[run_id])
            yield f"a watcher of {run_id} saw something else than is stored, from byte {at}"


def _audit(history: History) -> Iterator[str]:
    if history.audit_fault:
        yield f"the audit log is damaged: {history.audit_fault}"
    for record in history.records:
        steps = [f"run.{state.lower()}" for state, _ in record.steps[1:]]
        audited = [action for action in record.audited if action != "run.stop_requested"]
        if audited != ["task.created", *steps]:
            yield f"the audit log tells another story of {record.run_id}: {', '.join(audited)}"


def _key_of(record: Record) -> str:
    return record.command.partition("k=")[2].partition(";")[0]


def _is_abandoned(history: History, record: Record | None) -> bool:
    return record is not None and record.run_id in history.abandoned


def _ended_without_engine(history: History, seen: Execution) -> bool:
    """What a container wrote that ends while its engine is down is gone: nobody can tell how its command ended."""
    outages = history.engine_outages
    return any(began - _GOING_DOWN_S <= seen.last_life <= ended for began, ended in outages)


def _first_difference(one: bytes, other: bytes) -> int:
    same = (index for index, (left, right) in enumerate(zip(one, other, strict=False)) if left != right)
    return next(same, min(len(one), len(other)))
