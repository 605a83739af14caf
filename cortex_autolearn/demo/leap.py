"""A clock that stands still until it is told to leap: the time of the demo.

While the daemon works no simulated time passes, so that what it decides does not depend on how fast the machine is.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Final

_NOT_NOW: Final = timedelta(days=1)


class LeapingTime:
    """Implements ``schedule.TimeMap`` and ``ports.Clock``. What a run takes is still measured in real time.

    Arguments:
        start: the first instant, aware.
    """

    def __init__(self, start: datetime) -> None:
        self._now = start.astimezone(UTC)

    def now(self) -> datetime:
        """Return the simulated instant."""
        return self._now

    def monotonic(self) -> float:
        """Return real seconds."""
        return time.monotonic()

    def to_real(self, instant: datetime) -> datetime:
        """Return the present for an instant that has come; of one to come nobody knows when it will: not today."""
        real = datetime.now(UTC)
        return real if instant <= self._now else real + _NOT_NOW

    def leap(self, to: datetime) -> None:
        """Let it be ``to``, which is not in the past. Whoever waits for an instant has to look again."""
        if to < self._now:
            raise ValueError(f"time leaps forwards only: it is {self._now}, not {to}")
        self._now = to.astimezone(UTC)
