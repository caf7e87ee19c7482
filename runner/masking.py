"""Replaces secrets in a stream of bytes: no secret gets out, whatever the boundaries between chunks.

What comes out is a pure function of the bytes that went in and of the offsets at which secrets were added, so
that a replay after a crash gives the same bytes. Feed large chunks: one per line costs twenty times more than
one per 64 KiB.
"""

from collections.abc import Iterable

import structlog

from runner import needles
from runner.automaton import Automaton, Span
from runner.secret import Secret

TOKEN = b"***"

_ORDINARY_SECRET_BYTES = 6
"""A shorter one is masked too, and likely hits ordinary words."""

_CUT_SHORT_BYTES = 8
"""From here on, the beginning of a secret at the very end of the output is masked as well."""

log = structlog.get_logger(__name__)


class Masker:
    """One stream's masker. Not for two threads at once; matching itself releases the GIL.

    1. Append the chunk to what was held back.
    2. Find all occurrences of all needles, and where the text's end may be the beginning of one: the hold.
    3. Overlapping occurrences are one token; adjacent ones are two.
    4. Give out everything before the hold, with a token for each secret that starts there; the rest of such a
       secret, when it reaches past the hold, is remembered as masked.
    5. Hold back the rest, at most one byte less than the longest needle.
    """

    def __init__(self, secrets: Iterable[bytes | Secret] = ()) -> None:
        self._needles: frozenset[bytes] = frozenset()
        self._automaton = Automaton(self._needles)
        self._held = b""
        self._masked_bytes = 0  # of what is held: their token is out already
        self.add(secrets)

    def add(self, secrets: Iterable[bytes | Secret]) -> None:
        """Masks these too, in what is held back and all that follows.

        Raises `UnmaskableSecret`, and then adds none. Takes 0.5 s for 2000 secrets.
        """
        added: set[bytes] = set()
        for secret in secrets:
            value = secret.reveal().encode() if isinstance(secret, Secret) else secret
            added |= needles.derive(value)
            if len(value) < _ORDINARY_SECRET_BYTES:
                log.warning("masking.short_secret", size_bytes=len(value))
        if added - self._needles:
            self._needles |= added
            self._automaton = Automaton(self._needles)

    def feed(self, chunk: bytes) -> bytes:
        """What can be given out now."""
        text = self._held + chunk
        return self._give_out(text, self._automaton.occurrences(text), self._automaton.open_tail(text))

    def finish(self) -> bytes:
        """What was still held back; the masker is then ready for the next stream."""
        text = self._held
        spans = self._automaton.occurrences(text)
        if len(text) >= _CUT_SHORT_BYTES:  # all that is held is the beginning of a secret
            spans.append((0, len(text)))
        return self._give_out(text, spans, len(text))

    def _give_out(self, text: bytes, spans: list[Span], hold: int) -> bytes:
        done = 0
        if self._masked_bytes:
            (_, done), *tokens = _merged([(0, self._masked_bytes), *spans])
        else:
            tokens = _merged(spans)
        pieces: list[bytes] = []
        for start, end in tokens:
            if start >= hold:
                break
            pieces += text[done:start], TOKEN
            done = end
        pieces.append(text[done:hold])
        self._masked_bytes = max(0, done - hold)
        self._held = text[hold:]
        return b"".join(pieces)


def _merged(spans: list[Span]) -> list[Span]:
    """The same coverage in order, with those that overlap made one."""
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
