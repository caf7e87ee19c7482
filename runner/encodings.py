"""How tools write a value: every spelling of one secret that a masker must know.

Each function gives the spellings of one family, without the quotes around them. None looks at lines.
"""

import base64
import html
import json
import re
from collections.abc import Iterator
from itertools import product
from urllib.parse import quote, quote_plus

# Base64 as text files carry it: `base64` breaks lines after 76 characters, PEM and openssl after 64.
_WRAP_COLUMNS = (64, 76)

_JAVASCRIPT_SAFE = "!'()*"  # encodeURIComponent
_GO_PATH_SAFE = "$&+=:@"  # url.PathEscape
_GO_USERINFO_SAFE = "$&+=,;"  # the password in a URL that Go prints

_GO_JSON = str.maketrans({c: f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"})
_JQ_JSON = str.maketrans({"\x7f": "\\u007f"})
_UNICODE_ESCAPE = re.compile(r"(?<!\\)((?:\\\\)*)\\u([0-9a-f]{4})")

_HTML_DOUBLE_QUOTES = ('"', "&quot;", "&#34;")
_HTML_SINGLE_QUOTES = ("'", "&#39;", "&#x27;", "&apos;")

_WHITE_SPACE = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\\": "\\\\"}
_CONTROL = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\v": "\\v"}
_HCL = str.maketrans({**_WHITE_SPACE, '"': '\\"'})
_GO = str.maketrans({**_WHITE_SPACE, **_CONTROL, '"': '\\"'})
_ANSI_C = {**_WHITE_SPACE, **_CONTROL, "\x1b": "\\E", "'": "\\'"}


def spellings(value: bytes) -> Iterator[bytes]:
    """Every spelling of a value, itself first; the same one may come twice."""
    yield value
    yield from base64_cores(value)
    yield from base64_alone(value)
    yield from percent_encoded(value)
    yield from json_escaped(value)
    yield from hcl_quoted(value)
    yield from shell_quoted(value)
    yield from html_escaped(value)
    yield from hexadecimal(value)


def base64_cores(value: bytes) -> Iterator[bytes]:
    """The characters that the value alone decides, wherever it stands in what was encoded."""
    for shift in range(3):
        first = -(-8 * shift // 6)
        last = 8 * (shift + len(value)) // 6
        core = base64.b64encode(bytes(shift) + value)[first:last]
        yield core
        yield _url_safe(core)


def base64_alone(value: bytes) -> Iterator[bytes]:
    """The value encoded by itself or as a line of text, to its last bit, padding included."""
    for text in (value, value + b"\n"):
        whole = base64.b64encode(text)
        yield whole
        yield _url_safe(whole)


def base64_wrapped(value: bytes) -> Iterator[bytes]:
    """The same, broken into lines, where it is long enough to be broken."""
    for text in (value, value + b"\n"):
        whole = base64.b64encode(text)
        for columns in _WRAP_COLUMNS:
            if len(whole) > columns:
                yield b"\n".join(whole[at : at + columns] for at in range(0, len(whole), columns))


def _url_safe(encoded: bytes) -> bytes:
    return encoded.replace(b"+", b"-").replace(b"/", b"_")


def percent_encoded(value: bytes) -> Iterator[bytes]:
    for encode in (quote, quote_plus):
        for safe in ("", "/"):
            encoded = encode(value, safe=safe)
            yield encoded.encode()
            yield re.sub("%..", lambda code: code[0].lower(), encoded).encode()
    for safe in (_JAVASCRIPT_SAFE, _GO_PATH_SAFE, _GO_USERINFO_SAFE):
        yield quote(value, safe=safe).encode()


def json_escaped(value: bytes) -> Iterator[bytes]:
    """The value inside a JSON string, and inside a JSON document that is itself a JSON string."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return
    for escape in (_json_ascii, _json_ascii_upper, _json_php, _json_utf8, _json_jq, _json_go):
        once = escape(text)
        yield once.encode()
        yield escape(once).encode()


def _json_ascii(text: str) -> str:
    return json.dumps(text)[1:-1]


def _json_ascii_upper(text: str) -> str:
    return _UNICODE_ESCAPE.sub(lambda code: f"{code[1]}\\u{code[2].upper()}", _json_ascii(text))


def _json_php(text: str) -> str:
    return _json_ascii(text).replace("/", "\\/")


def _json_utf8(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _json_jq(text: str) -> str:
    return _json_utf8(text).translate(_JQ_JSON)


def _json_go(text: str) -> str:
    return _json_utf8(text).translate(_GO_JSON)


def hcl_quoted(value: bytes) -> Iterator[bytes]:
    """As Terraform prints a string (HCL, with `${` doubled or not) and as Go's `%q` does in its errors."""
    text = value.decode(errors="surrogateescape")
    hcl = _printable(text.translate(_HCL), hcl=True)
    yield hcl
    yield hcl.replace(b"${", b"$${").replace(b"%{", b"%%{")
    yield _printable(text.translate(_GO), hcl=False)


def _printable(text: str, *, hcl: bool) -> bytes:
    def spell(char: str) -> bytes:
        code = ord(char)
        if char.isprintable():
            return char.encode()
        if 0xDC80 <= code <= 0xDCFF:  # a byte that is no UTF-8
            return "\N{REPLACEMENT CHARACTER}".encode() if hcl else b"\\x%02x" % (code - 0xDC00)
        if not hcl and (code < 0x20 or code == 0x7F):
            return b"\\x%02x" % code
        return b"\\u%04x" % code if code < 0x10000 else b"\\U%08x" % code

    return b"".join(map(spell, text))


def shell_quoted(value: bytes) -> Iterator[bytes]:
    yield value.replace(b"'", b"'\\''")
    yield value.replace(b"'", b"'\"'\"'")
    yield re.sub(rb"'+", rb"""'"\g<0>"'""", value)  # dash and busybox: a run of quotes at once
    yield re.sub(rb'[\\"$`]', rb"\\\g<0>", value)
    yield re.sub(rb"""[ !"$&'()*,;<>?\[\\\]^`{|}]|(?<=[:=])~""", rb"\\\g<0>", value)  # bash's %q
    yield _ansi_c(value.decode(errors="surrogateescape"))
    yield _ansi_c(value.decode("ascii", errors="surrogateescape"))  # in the C locale


def _ansi_c(text: str) -> bytes:
    """The shell's `$'...'`."""

    def spell(char: str) -> bytes:
        if escape := _ANSI_C.get(char):
            return escape.encode()
        raw = char.encode(errors="surrogateescape")
        return raw if char.isprintable() else b"".join(b"\\%03o" % byte for byte in raw)

    return b"".join(map(spell, text))


def html_escaped(value: bytes) -> Iterator[bytes]:
    text = html.escape(value.decode(errors="surrogateescape"), quote=False)
    for double, single in product(_HTML_DOUBLE_QUOTES, _HTML_SINGLE_QUOTES):
        yield text.replace('"', double).replace("'", single).encode(errors="surrogateescape")


def hexadecimal(value: bytes) -> Iterator[bytes]:
    yield value.hex().encode()
    yield value.hex().upper().encode()
