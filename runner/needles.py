"""Which byte strings betray a secret: its value, its lines, and every spelling of each.

The lists are data for the masker (runner/masking.py); the spellings themselves are in runner/encodings.py.
"""

import re
from collections.abc import Iterator

from runner import encodings
from runner.errors import RunnerError

MIN_SECRET_BYTES = 4
MAX_SECRET_BYTES = 64 * 1024
MIN_LINE_BYTES = 6
"""A shorter line of a multi-line secret, such as `}`, would mask half of every log if it stood alone."""


class UnmaskableSecret(RunnerError):
    """A value that cannot be kept out of the output. The message never shows it."""


class SecretTooShort(UnmaskableSecret):
    def __init__(self, size_bytes: int) -> None:
        super().__init__(
            f"a secret of {size_bytes} bytes is too short to mask: it needs at least {MIN_SECRET_BYTES}, "
            "else ordinary output would be masked too"
        )


class SecretTooLong(UnmaskableSecret):
    def __init__(self, size_bytes: int) -> None:
        super().__init__(
            f"a secret of {size_bytes} bytes is too long to mask: at most {MAX_SECRET_BYTES} are possible"
        )


def derive(secret: bytes) -> set[bytes]:
    """Every needle of one secret. Raises `UnmaskableSecret` for a value outside the limits."""
    if len(secret) < MIN_SECRET_BYTES:
        raise SecretTooShort(len(secret))
    if len(secret) > MAX_SECRET_BYTES:
        raise SecretTooLong(len(secret))
    needles = {needle for part in _parts(secret) for needle in encodings.spellings(part)}
    for wrapped in encodings.base64_wrapped(_trimmed(secret)):
        needles.update(_parts(wrapped))
    return needles


def _parts(text: bytes) -> Iterator[bytes]:
    """The whole text, as it is and as others re-join it, and its lines where they can stand alone.

    White space around a part is left off: tools trim and indent, and it gives nothing away.
    """
    yield _trimmed(text)
    if b"\0" in text:  # no text: it has no lines, and a shell cannot hold it
        return
    lines = text.splitlines()
    joined = [re.sub(rb"[ \t\n]+", b" ", _trimmed(text))]  # what `echo $SECRET` prints
    if len(lines) > 1:
        stripped = [line.strip() for line in lines]
        yield from (line for line in stripped if len(line) >= MIN_LINE_BYTES)
        if any(len(line) < MIN_LINE_BYTES for line in stripped):
            joined += [_trimmed(joint.join(lines)) for joint in (b"\n", b"\r\n", b" ")]
    yield from (whole for whole in joined if len(whole) >= MIN_SECRET_BYTES)


def _trimmed(text: bytes) -> bytes:
    """Without the white space around it, unless too little would be left."""
    trimmed = text.strip()
    return trimmed if len(trimmed) >= MIN_SECRET_BYTES else text
