"""How many megabytes of log the masker takes per second of CPU time, with all derived needles."""

import random
import string
import time
from collections.abc import Iterator

from runner.masking import Masker

TOTAL_BYTES = 200_000_000
FEED_BYTES = 64 * 1024
LINE_BYTES = 100
SECRETS_PER_LINE = 0.001
WINDOWS = 5

_SEED = 20
_TOKEN_ALPHABET = string.ascii_letters + string.digits + "-_"
_WORDS = b"""
    Refreshing state Reading complete Still creating elapsed Modifications destroyed apply plan resource
    module aws_instance aws_security_group_rule google_storage_bucket kubernetes_deployment terraform_data
    INFO WARN DEBUG request response status=200 level=info caller=main.go msg= GET POST /v1/objects/
    us-east-1
""".split()


def measure() -> dict[str, float]:
    """MB per CPU second with 20 and with 2000 secrets: the median of the windows."""
    return {f"mask_{count}": sorted(windows(count))[WINDOWS // 2] for count in (20, 2000)}


def windows(secret_count: int) -> list[float]:
    """MB per CPU second in each of several windows, each over a part of the log."""
    chance = random.Random(_SEED)
    secrets = [_token(chance) for _ in range(secret_count)]
    masker = Masker(secrets)
    feeds = list(_feeds(chance, secrets))
    return [_rate(masker, feeds, TOTAL_BYTES // WINDOWS) for _ in range(WINDOWS)]


def _rate(masker: Masker, feeds: list[bytes], total_bytes: int) -> float:
    fed = 0
    begun = time.process_time()
    while fed < total_bytes:
        for feed in feeds:
            masker.feed(feed)
            fed += len(feed)
    masker.finish()
    return fed / 1e6 / (time.process_time() - begun)


def _feeds(chance: random.Random, secrets: list[bytes]) -> Iterator[bytes]:
    """A part of the log, large enough to be no friend of the caches."""
    log = b"".join(_line(chance, secrets) for _ in range(200_000))
    return (log[at : at + FEED_BYTES] for at in range(0, len(log), FEED_BYTES))


def _line(chance: random.Random, secrets: list[bytes]) -> bytes:
    stamp = f"2026-01-02T03:04:{chance.uniform(0, 60):09.6f}Z i-{chance.getrandbits(64):016x}"
    words = [stamp.encode()]
    if chance.random() < SECRETS_PER_LINE:
        words.append(chance.choice(secrets))
    words += chance.choices(_WORDS, k=8)
    return b" ".join(words)[: LINE_BYTES - 1].ljust(LINE_BYTES - 1) + b"\n"


def _token(chance: random.Random) -> bytes:
    return "".join(chance.choices(_TOKEN_ALPHABET, k=chance.randint(16, 48))).encode()


if __name__ == "__main__":
    for secret_count in (20, 2000):
        rates = sorted(windows(secret_count))
        print(f"mask_{secret_count}: {rates[WINDOWS // 2]:.0f} MB per CPU second, of", *map(round, rates))
