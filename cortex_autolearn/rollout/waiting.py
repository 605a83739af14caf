"""Whether there is anything for a test to do now: asked at every heartbeat and change, so it looks and reads little."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cortex_autolearn.model import instants, layout
from cortex_autolearn.ports import BoundaryError

if TYPE_CHECKING:
    from collections.abc import Callable

    from cortex_autolearn.model.experiments import Experiment
    from cortex_autolearn.ports import Files
    from cortex_autolearn.rollout.needs import RolloutReading


def waits(reading: RolloutReading, files: Files, test: Experiment, now_us: int, taken_in: Callable[[], int]) -> bool:
    """Tell whether a window has closed, a day has passed, or anything came that the test was not told yet.

    Windows and days pass only as far as the fleet's records are known, which ``taken_in`` tells.
    """
    due_us = test.looked_us + instants.DAY_US
    if test.closing_us is not None:
        due_us = min(due_us, test.closing_us)
    if (due_us <= now_us and due_us <= taken_in()) or has_resumed(test) or reading.has_seen(test.master, test.seen):
        return True
    return _has_grown(files, test) or bool(reading.rescored(test.test_id))


def has_resumed(test: Experiment) -> bool:
    """Tell whether a test goes on after a pause, in which nothing was decided, and was not looked at since."""
    until_us = test.pauses[-1].until_us if test.pauses else None
    return until_us is not None and until_us > test.looked_us


def _has_grown(files: Files, test: Experiment) -> bool:
    try:
        entry = files.entry(layout.results_file(test.test_id))
    except BoundaryError:
        return False  # the next run tells of it
    seen = (test.results.identity, test.results.size)
    return entry is not None and (f"{entry.device}:{entry.inode}", entry.size) != seen
