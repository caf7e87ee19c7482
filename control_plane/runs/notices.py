"""What has to happen after a commit: watchers are woken, the scheduler looks again, the other replicas are told."""

from __future__ import annotations

from collections.abc import Callable

from control_plane.replicas.bus import Bus, Nobody
from control_plane.replicas.notes import Kind
from control_plane.runs.feeds import Feeds


class Notices:
    """Called on the event loop, after the transaction that they tell of is durable."""

    def __init__(self, feeds: Feeds, bus: Bus | None = None) -> None:
        self._feeds = feeds
        self._bus = bus or Nobody()
        self.wake_scheduler: Callable[[], None] = lambda: None
        self.wake_approvals: Callable[[], None] = lambda: None
        self.wake_queue_timeouts: Callable[[], None] = lambda: None

    def run_moved(self, run_id: str) -> None:
        self._feeds.run_changed(run_id)
        self._bus.tell(Kind.RUN, run_id)

    def output_stored(self, run_id: str) -> None:
        """More of the run's output is durable, so that every replica can read it."""
        self._bus.tell(Kind.OUTPUT, run_id)

    def queue_changed(self, stack_id: str) -> None:
        """A run was queued or discarded, the slot was taken or freed, the stack was changed, locked or unlocked."""
        self._feeds.stack_changed(stack_id)
        self.wake_scheduler()
        self._bus.tell(Kind.STACK, stack_id)

    def planned(self) -> None:
        """A plan was made: its approval policies are to be asked."""
        self.wake_approvals()

    def stop_asked(self, run_id: str) -> None:
        """The run's runner is connected to another replica, which has to tell it."""
        self._bus.tell(Kind.STOP, run_id)

    def taken_over(self, runner_id: str, epoch: int) -> None:
        """A runner that was connected to another replica is connected here."""
        self._bus.tell(Kind.TAKEN_OVER, f"{runner_id}/{epoch}")

    def capacity_changed(self) -> None:
        """A runner that is connected here came, went, or has room again."""
        self._feeds.capacity_changed()
        self.wake_scheduler()

    def limits_changed(self) -> None:
        """More or fewer runs may start than before."""
        self.capacity_changed()
        self._bus.tell(Kind.LIMITS)

    def runners_changed(self) -> None:
        """A runner came, went, or takes no more work: also the other replicas want to know."""
        self.capacity_changed()
        self._bus.tell(Kind.RUNNERS)
