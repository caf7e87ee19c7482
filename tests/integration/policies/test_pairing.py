"""Which texts a test stands beside: its own policy, what that is written with, and nobody else's."""

from __future__ import annotations

import pytest

from policies.workbench import pairing
from policies.workbench.compiler import Compiler
from policies.workbench.pairing import Source

POLICY = 'package spacelift\n\ndeny contains "no" if true\n'
TEST = 'package spacelift\n\ntest_no if "no" in deny\n'
CASES = {
    "a test of the same name": (
        {"a.rego": POLICY, "a_test.rego": TEST, "b.rego": POLICY, "b_test.rego": TEST},
        [{"a_test.rego", "a.rego"}, {"b_test.rego", "b.rego"}],
    ),
    "in the same folder": (
        {"x/a.rego": POLICY, "y/a.rego": POLICY, "y/a_test.rego": TEST},
        [{"y/a_test.rego", "y/a.rego"}, {"x/a.rego"}],
    ),
    "a test of another name stands beside its package": (
        {"a.rego": POLICY, "b.rego": POLICY.replace("spacelift", "other"), "all_test.rego": TEST},
        [{"all_test.rego", "a.rego"}, {"b.rego"}],
    ),
    "and beside what it imports": (
        {
            "a.rego": POLICY,
            "b.rego": POLICY.replace("spacelift", "b"),
            "t_test.rego": "package t\nimport data.b\ntest_b if b.deny\n",
        },
        [{"t_test.rego", "b.rego"}, {"a.rego"}],
    ),
    "a part of the same package that the policy is written with": (
        {
            "a.rego": POLICY.replace("if true", "if helps(1)"),
            "a_test.rego": TEST,
            "helps.rego": "package spacelift\nhelps(x) if x\n",
            "unasked.rego": "package spacelift\ntrack if true\n",
        },
        [{"a_test.rego", "a.rego", "helps.rego"}, {"unasked.rego"}],
    ),
    "what the part needs in turn": (
        {
            "a.rego": POLICY.replace("if true", "if data.one.x"),
            "a_test.rego": TEST,
            "one.rego": "package one\nx if data.two.y\n",
            "two.rego": "package two\ny := 1\n",
        },
        [{"a_test.rego", "a.rego", "one.rego", "two.rego"}],
    ),
    "a policy that has its tests in itself": (
        {"a.rego": POLICY + "\ntest_no if deny\n", "b.rego": POLICY},
        [{"a.rego"}, {"b.rego"}],
    ),
}


@pytest.mark.parametrize(("texts", "expected"), CASES.values(), ids=CASES)
async def test_a_test_stands_beside(
    compiler: Compiler, texts: dict[str, str], expected: list[set[str]]
) -> None:
    sources = [Source(file, await compiler.parse(text, file), file) for file, text in texts.items()]

    units = pairing.units(sources)

    assert [{source.file for source in unit.sources} for unit in units] == expected
