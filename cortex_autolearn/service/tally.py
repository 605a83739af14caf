"""Counts the runs that this process has made, for the metrics: what the state keeps of runs is removed with time."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Final

from cortex_autolearn.adapters.metrics import Spread
from cortex_autolearn.runner import WaitAbandonedError

if TYPE_CHECKING:
    from cortex_autolearn.runner import Result

BOUNDS_S: Final = (0.05, 0.25, 1.0, 5.0, 30.0, 120.0, 600.0, 3_600.0)
"""Upper bounds of a run's duration in seconds: from a look that finds nothing to a night over a new tree."""


class RunTally:
    """Runs by job and result, and how long they took; safe from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ended: Counter[tuple[str, str]] = Counter()
        self._buckets: defaultdict[str, list[int]] = defaultdict(lambda: [0] * len(BOUNDS_S))
        self._seconds: defaultdict[str, float] = defaultdict(float)

    def add(self, result: Result) -> None:
        """Count a run; one that never began is none."""
        if isinstance(result.error, WaitAbandonedError):
            return
        with self._lock:
            self._ended[result.job, result.result] += 1
            self._seconds[result.job] += result.duration_s
            buckets = self._buckets[result.job]
            for rank, bound in enumerate(BOUNDS_S):
                buckets[rank] += result.duration_s <= bound

    def ended(self) -> dict[tuple[str, str], int]:
        """Return how many runs of each job ended with each result."""
        with self._lock:
            return dict(self._ended)

    def durations(self) -> dict[str, Spread]:
        """Return how long the runs of each job took, in seconds."""
        with self._lock:
            counts: Counter[str] = Counter()
            for (job, _), count in self._ended.items():
                counts[job] += count
            return {
                job: Spread(dict(zip(BOUNDS_S, buckets, strict=True)), counts[job], self._seconds[job])
                for job, buckets in self._buckets.items()
            }
