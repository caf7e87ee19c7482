"""Lines `::add-mask::VALUE` in a run's output."""

from hypothesis import given
from hypothesis import strategies as st

from runner.mask_commands import MaskCommandScanner, SecretAdded


def scan(*chunks: bytes) -> tuple[bytes, list[bytes | None]]:
    """The whole output and the secrets of a scan of these chunks."""
    scanner = MaskCommandScanner()
    pieces = [piece for chunk in chunks for piece in scanner.feed(chunk)]
    pieces += scanner.end_line()
    assert b"" not in pieces
    secrets = [piece.value for piece in pieces if isinstance(piece, SecretAdded)]
    return b"".join(piece for piece in pieces if isinstance(piece, bytes)), secrets


def test_a_value_is_taken_and_never_shown() -> None:
    assert scan(b"before\n::add-mask::s3cret\nafter\n") == (b"before\n::add-mask::***\nafter\n", [b"s3cret"])


def test_the_first_line_and_lines_in_a_row_are_taken() -> None:
    output, secrets = scan(b"::add-mask::one1\n::add-mask::two2\n")
    assert (output, secrets) == (b"::add-mask::***\n::add-mask::***\n", [b"one1", b"two2"])


def test_only_a_line_s_start_counts() -> None:
    assert scan(b"say ::add-mask::x\n") == (b"say ::add-mask::x\n", [])


def test_escapes_carry_newlines_and_a_windows_line_end_is_no_part_of_the_value() -> None:
    assert scan(b"::add-mask::a%0Ab%0D%25%250A\r\n")[1] == [b"a\nb\r%%0A"]


def test_the_secret_comes_before_the_bytes_that_follow_it() -> None:
    pieces = MaskCommandScanner().feed(b"::add-mask::s3cret\ns3cret\n")
    assert pieces == [SecretAdded(b"s3cret"), b"::add-mask::***", b"\ns3cret\n"]


def test_a_command_without_its_newline_counts_when_its_step_ends() -> None:
    assert scan(b"::add-mask::s3cret") == (b"::add-mask::***", [b"s3cret"])


def test_a_new_step_begins_a_line_even_if_the_one_before_did_not_end_its_own() -> None:
    scanner = MaskCommandScanner()
    assert scanner.feed(b"no newline") == [b"no newline"]
    assert scanner.end_line() == []
    assert scanner.feed(b"::add-mask::s3cret\n")[0] == SecretAdded(b"s3cret")


def test_an_overlong_value_is_dropped_and_its_bytes_do_not_come_out() -> None:
    output, secrets = scan(b"::add-mask::", *[b"x" * 50_000] * 10, b"\nnext\n::add-mask::good\n")
    assert output == b"::add-mask::***\nnext\n::add-mask::***\n"
    assert secrets == [None, b"good"]


def test_output_is_held_back_only_while_it_may_become_a_command() -> None:
    scanner = MaskCommandScanner()
    assert scanner.feed(b"progress: 10%") == [b"progress: 10%"]
    assert scanner.feed(b"\n") == [b"\n"]
    assert scanner.feed(b"::add") == []
    assert scanner.feed(b"itional") == [b"::additional"]


COMMAND = b"::add-mask::"
PARTS = st.lists(st.sampled_from([COMMAND, b"::", b"\n", b"value", b"\r", b"%0A", b"x", COMMAND + b"v\n"]))


@given(PARTS, st.data())
def test_however_the_output_is_cut_the_result_is_the_same(parts: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    chunks = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert scan(*chunks) == scan(whole)


@given(PARTS)
def test_lines_that_are_no_command_come_out_as_they_are(parts: list[bytes]) -> None:
    whole = b"".join(parts)
    lines = whole.split(b"\n")
    expected = b"\n".join(b"::add-mask::***" if line.startswith(b"::add-mask::") else line for line in lines)
    # A carriage return before the newline of a command belongs to the line that is replaced.
    assert scan(whole)[0] == expected
