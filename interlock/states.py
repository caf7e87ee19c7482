"""The states in which a run is over."""

from interlock.v1.run_pb2 import (
    RUN_STATE_DISCARDED,
    RUN_STATE_FAILED,
    RUN_STATE_FINISHED,
    RUN_STATE_STOPPED,
    Run,
)

FINAL_STATES = frozenset({RUN_STATE_FINISHED, RUN_STATE_FAILED, RUN_STATE_STOPPED, RUN_STATE_DISCARDED})


def is_final(run: Run) -> bool:
    """Nothing about this run will change any more."""
    return run.state in FINAL_STATES
