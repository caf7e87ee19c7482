"""What an author writes is never taken for what the rewriting left."""

from policies.workbench import rewriting


def test_a_comment_that_looks_like_the_map_of_lines_moves_no_line() -> None:
    rendered = 'package p\n# interlock_lines {"1": 40}\n# interlock_lines {x}\ninterlock_identity := {}\n'
    assert rewriting.author_line(rendered, 3) == 3


def test_the_map_of_lines_is_the_last_line() -> None:
    rendered = (
        'package p\n# interlock_lines {x}\ninterlock_identity := {}\n# interlock_lines {"2": 40, "5": 41}\n'
    )
    assert [rewriting.author_line(rendered, line) for line in (1, 2, 4, 6)] == [1, 40, 40, 41]
