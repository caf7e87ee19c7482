"""The command of every task of a soak: it writes lines that can be foretold, and leaves signs of its life outside of
its container, by which two executions at once and second executions are seen without asking Interlock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# Where the folder of signs is mounted in each container.
OUTSIDE: Final = "/outside"
SECRET: Final = "a-secret-of-the-soak"
INIT: Final = ["echo initialized", "sleep 0.3"]
_INITIALIZED: Final = b"initialized\n"

# The book has a line at the begin and the end of each execution; the counter is read at the begin and written at the
# end, so that whoever overlaps counts wrong; the modification time of the life file is the last sign of life.
_SCRIPT: Final = """\
k={key}; d={outside}/{stack}; h=$(hostname)
: > $d/$k.$h.begin; echo "begin $k $h" >> $d/book
c=$(cat $d/counter); n=0
while [ $n -lt {lines} ]; do
  n=$((n+1)); echo "$k $n $((n*n*7919%1000003)) $SOAK_SECRET."
  [ $((n%{burst})) = 0 ] && {{ echo >> $d/$k.$h.life; sleep 0.1; }}
done
echo $((c+1)) > $d/$k.counter; mv $d/$k.counter $d/counter
echo "end $k $h $((c+1))" >> $d/book; echo >> $d/$k.$h.life
exit {exit_code}"""


@dataclass(frozen=True, slots=True)
class Command:
    """`key` is unique in a soak, and the request id of its task. A tenth of a second passes after `burst` lines."""

    key: str
    stack_id: str
    lines: int
    burst: int
    exit_code: int

    @property
    def text(self) -> str:
        return _SCRIPT.format(
            key=self.key, outside=OUTSIDE, stack=self.stack_id, lines=self.lines, burst=self.burst,
            exit_code=self.exit_code,
        )  # fmt: skip

    @property
    def output(self) -> bytes:
        """All that init and command write, masked."""
        numbers = range(1, self.lines + 1)
        written = (b"%s %d %d ***.\n" % (self.key.encode(), n, n * n * 7919 % 1000003) for n in numbers)
        return _INITIALIZED + b"".join(written)
