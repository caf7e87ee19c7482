"""The bugs that `make mutants` puts into the code can still be put there."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.soak.bugs import BUGS, Bug

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_each_bug_finds_its_place_in_the_code_and_leaves_python_there(bug: Bug, tmp_path: Path) -> None:
    for file in {edit.file for edit in bug.edits}:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, tmp_path / file)
    for edit in bug.edits:
        edit.apply(tmp_path)
    for edit in bug.edits:
        compile((tmp_path / edit.file).read_text(), edit.file, "exec")
