"""What the shell offers after TAB: ids, asked of the control plane. Without one it offers nothing."""

import os
from collections.abc import Callable, Iterator

from interlock import profiles, sync
from interlock.cli.session import Session
from interlock.errors import InterlockError
from interlock.retry import NEVER

MOST = 200


def stacks(incomplete: str) -> list[str]:
    return _offered(incomplete, lambda client: (stack.id for stack in client.stacks.list(limit=MOST)))


def runs(incomplete: str) -> list[str]:
    return _offered(incomplete, lambda client: (run.id for run in client.runs.list(limit=MOST)))


def policies(incomplete: str) -> list[str]:
    return _offered(incomplete, lambda client: (policy.id for policy in client.policies.list(limit=MOST)))


def pools(incomplete: str) -> list[str]:
    return _offered(incomplete, lambda client: (pool.id for pool in client.pools.list(limit=MOST)))


def profile_names(incomplete: str) -> list[str]:
    try:
        known = profiles.load(profiles.default_file(os.environ)).by_name
    except InterlockError:
        return []
    return [name for name in known if name.startswith(incomplete)]


def _offered(incomplete: str, ids: Callable[[sync.Client], Iterator[str]]) -> list[str]:
    try:
        with Session().connect(retry=NEVER) as client:
            return [each for each in ids(client) if each.startswith(incomplete)]
    except InterlockError:
        return []  # a completion must not print
