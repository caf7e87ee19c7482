"""What has to happen after a commit: watchers are woken, and the scheduler looks again."""

from __future__ import annotations

from collections.abc import Callable

from control_plane.runs.feeds import Feeds


class Notices:
    """Called on the event loop, after the transaction that they tell of is durable."""

    def __init__(self, feeds: Feeds) -> None:
        self._feeds = feeds
        self.wake_scheduler: Callable[[], None] = lambda: None

    def run_moved(self, run_id: str) -> None:
        self._feeds.run_changed(run_id)

    def queue_changed(self, stack_id: str) -> None:
        """A run was queued or discarded, the slot was taken or freed, the stack was changed, locked or unlocked."""
        self._feeds.stack_changed(stack_id)
        self.wake_scheduler()

    def capacity_changed(self) -> None:
        """A runner came, went, or has room again."""
        self._feeds.all_changed()
        self.wake_scheduler()
