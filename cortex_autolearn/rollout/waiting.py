"""Whether there is anything for a test to do now: asked at every heartbeat and change, so it looks and reads little."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cortex_autolearn.model import instants, layout
from cortex_autolearn.ports import BoundaryError

if TYPE_CHECKING:
    from cortex_autolearn.model.experiments import Experiment
    from cortex_autolearn.ports import Files
    from cortex_autolearn.rollout.needs import RolloutReading


def waits(reading: RolloutReading, files: Files, test: Experiment, now_us: int) -> bool:
    """Tell whether a window has closed, a day has passed, or anything came that the test was not told yet."""
    if test.closing_us is not None and test.closing_us <= now_us:
        return True
    if now_us - test.looked_us >= instants.DAY_US or reading.has_seen(test.master, test.seen):
        return True
    return _has_grown(files, test) or bool(reading.rescored(test.test_id))


def _has_grown(files: Files, test: Experiment) -> bool:
    try:
        entry = files.entry(layout.results_file(test.test_id))
    except BoundaryError:
        return False  # the next run tells of it
    seen = (test.results.identity, test.results.size)
    return entry is not None and (f"{entry.device}:{entry.inode}", entry.size) != seen
