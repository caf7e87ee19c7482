"""How long a call is tried again: waits that grow, with jitter, up to a bound."""

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Retry:
    """The client's patience with a server that does not answer. The defaults outlast its restart."""

    first_wait_s: float = 0.1
    longest_wait_s: float = 2.0
    give_up_after_s: float = 20.0

    def waits(self) -> Iterator[float]:
        """Seconds to wait before each further attempt; ends when patience does.

        Jitter takes up to half of each wait off, so that many clients do not come back at one moment.
        """
        end = time.monotonic() + self.give_up_after_s
        wait_s = self.first_wait_s
        while time.monotonic() < end:
            yield wait_s * random.uniform(0.5, 1.0)  # noqa: S311  # not for secrecy
            wait_s = min(wait_s * 2, self.longest_wait_s)


NEVER = Retry(give_up_after_s=0)
