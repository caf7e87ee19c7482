"""What real encoders and shells make of a secret is masked, at any cut; they say what to expect."""

import base64
import html
import json
import os
import shutil
import subprocess
import urllib.parse
from collections.abc import Callable

import pytest

from runner.masking import Masker

SECRETS = [
    "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
    "p@ss w<o>rd&more/'quoted'\"double\"$HOME`x`\\back",
    "${interpolated} %{directive} ~a:~b=~c #!{}[]()*?^|;,",
    "tab\tescape\x1bbell\x07backspace\x08feed\x0b\x0cdelete\x7f.",
    "unicode é ü 漢字 \U0001f511 \u2028 separator \u0085 end",
    "it''s '''three''' quotes",
    "first line of text\nsecond 'line' of text\nthird-line",
    "\\\\server\\new\\u0041\\table",
]


def masked_at_any_cut(secret: bytes, text: bytes) -> bytes:
    """The masked text, after checking that it is the same when the text comes in two pieces."""
    masker = Masker([secret])
    outputs = {masker.feed(text[:at]) + masker.feed(text[at:]) + masker.finish() for at in range(len(text))}
    (output,) = outputs
    return output


@pytest.mark.parametrize(
    "secret", [b"hunt", b"hunter", *(secret.encode() for secret in SECRETS), bytes(range(200))]
)
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
@pytest.mark.parametrize("before", range(4))
@pytest.mark.parametrize("after", range(1, 4))
def test_base64_of_a_text_shows_no_character_that_the_secret_alone_decides(
    secret: bytes, encode: Callable[[bytes], bytes], before: int, after: int
) -> None:
    encoded = encode(b"\0" * before + secret + b"\0" * after)
    other = encode(b"\xff" * before + secret + b"\xff" * after)
    decided = [at for at in range(len(encoded)) if encoded[at] == other[at] != ord("=")]
    first, last = decided[0], decided[-1] + 1

    assert masked_at_any_cut(secret, encoded) == encoded[:first] + b"***" + encoded[last:]


@pytest.mark.parametrize("secret", [b"hunt", *(secret.encode() for secret in SECRETS)])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
@pytest.mark.parametrize("end", [b"", b"\n"])
def test_base64_of_the_secret_alone_is_masked_to_its_padding(
    secret: bytes, encode: Callable[[bytes], bytes], end: bytes
) -> None:
    assert masked_at_any_cut(secret, encode(secret + end)) == b"***"


@pytest.mark.parametrize("columns", [64, 76])
@pytest.mark.parametrize("size", [60, 93, 400])
def test_base64_that_a_tool_broke_into_lines_is_masked(columns: int, size: int) -> None:
    secret = "".join(f"{at:04x}" for at in range(size // 4)).encode()
    command = ["base64", "-w", str(columns)]
    wrapped = subprocess.run(command, input=secret + b"\n", capture_output=True, check=True).stdout
    visible = masked_at_any_cut(secret, wrapped).replace(b"***", b"").replace(b"\n", b"")
    assert visible == b""


def _go_json(text: str) -> str:
    escaped = json.dumps(text, ensure_ascii=False)
    for char in "<>&\u2028\u2029":
        escaped = escaped.replace(char, f"\\u{ord(char):04x}")
    return escaped


ENCODERS: dict[str, Callable[[str], str]] = {
    "itself": str,
    "percent": lambda text: urllib.parse.quote(text, safe=""),
    "percent, slash kept": urllib.parse.quote,
    "percent, plus for space": urllib.parse.quote_plus,
    "percent in JavaScript": lambda text: urllib.parse.quote(text, safe="!'()*"),
    "JSON": json.dumps,
    "JSON as UTF-8": lambda text: json.dumps(text, ensure_ascii=False),
    "JSON of Go": _go_json,
    "JSON in JSON": lambda text: json.dumps(json.dumps(text)),
    "JSON in JSON as UTF-8": lambda text: json.dumps(
        json.dumps(text, ensure_ascii=False), ensure_ascii=False
    ),
    "JSON in JSON of Go": lambda text: _go_json(_go_json(text)),
    "HTML": html.escape,
    "HTML, quotes kept": lambda text: html.escape(text, quote=False),
    "HTML of Go": lambda text: html.escape(text).replace("&quot;", "&#34;").replace("&#x27;", "&#39;"),
    "XML": lambda text: html.escape(text).replace("&#x27;", "&apos;"),
    "hex": lambda text: text.encode().hex(),
    "HEX": lambda text: text.encode().hex().upper(),
}


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("encoder", ENCODERS)
def test_an_encoded_secret_is_masked(secret: str, encoder: str) -> None:
    encode = ENCODERS[encoder]
    before, _, after = encode("beforeXafter").partition(encode("X").strip('"\\'))
    encoded = encode(f"before{secret}after")
    assert masked_at_any_cut(secret.encode(), encoded.encode()) == f"{before}***{after}".encode()


@pytest.mark.parametrize(
    ("encoded", "secret"),
    [
        ("%2f%3d%c3%a9-value", "/=é-value"),
        ("\\u00E9-value", "é-value"),
        ("http:\\/\\/host", "http://host"),
        ("é<\\b\\u007f", "é<\b\x7f"),
        ("é<\\b\x7f", "é<\b\x7f"),
        ("$${name} %%{if}", "${name} %{if}"),
        ('say \\"it\\"\\n\\tthen', 'say "it"\n\tthen'),
        ("\\u0007\\u0085bell", "\a\u0085bell"),
        ("\\a\\x1b\\u0085bell", "\a\x1b\u0085bell"),
    ],
)
def test_spellings_of_other_languages_are_masked(encoded: str, secret: str) -> None:
    assert masked_at_any_cut(secret.encode(), encoded.encode()) == b"***"


def test_the_password_in_a_url_is_masked() -> None:
    url = b"postgres://me:p$ss%40word@host"
    assert masked_at_any_cut(b"p$ss@word", url) == b"postgres://me:***@host"


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
@pytest.mark.parametrize(
    ("shell", "command"),
    [
        ("bash", 'printf %q "$S"'),
        ("bash", 'printf %s "${S@Q}"'),
        ("bash", "declare -p S"),
        ("bash", 'set -x; : "$S"'),
        ("bash", "echo $S"),
        ("dash", "export -p"),
        ("dash", 'set -x; : "$S"'),
        ("busybox sh", "export -p"),
        ("busybox sh", 'set -x; : "$S"'),
    ],
)
def test_what_a_shell_prints_of_a_secret_is_masked(
    secret: str, locale: str, shell: str, command: str
) -> None:
    program, *_ = shell.split()
    if not shutil.which(program):
        pytest.skip(f"no {shell} here")
    environment = {"S": secret, "LC_ALL": locale, "PATH": os.environ["PATH"]}
    printed = subprocess.run(
        [*shell.split(), "-fc", command],
        env=environment,
        stderr=subprocess.STDOUT,
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    masked = Masker([secret.encode()]).feed(printed + b"\n\n")
    (line,) = [line.strip() for line in masked.split(b"\n") if b"***" in line]
    for name in (b"export S=", b"declare -x S=", b"+ : "):
        line = line.removeprefix(name)
    assert line in {b"***", b"\\***", b"'***'", b'"***"', b"$'***'"}
