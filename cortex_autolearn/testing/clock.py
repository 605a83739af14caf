"""A clock that moves only when told to."""

from __future__ import annotations

from datetime import datetime, timedelta


class FakeClock:
    """Implements :class:`cortex_autolearn.ports.Clock` for tests and demos; nothing here reads the real clock.

    Arguments:
        start: the first instant, aware and in UTC.
        monotonic: the first value of :meth:`monotonic`, in seconds.
    """

    def __init__(self, start: datetime, *, monotonic: float = 0.0) -> None:
        if start.utcoffset() != timedelta(0):
            raise ValueError(f"a clock starts at an aware UTC instant, not at {start!r}")
        self._now = start
        self._monotonic = monotonic

    def now(self) -> datetime:
        """Return the current instant, aware and in UTC."""
        return self._now

    def monotonic(self) -> float:
        """Return seconds that never step."""
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` (0 or more) pass, on the wall and on the monotonic clock alike."""
        if not seconds >= 0:
            raise ValueError(f"time passes forwards only, not by {seconds} s; a wall clock that jumps is step()")
        self._now += timedelta(seconds=seconds)
        self._monotonic += seconds

    def step(self, seconds: float) -> None:
        """Set the wall clock forwards or back by ``seconds``, as an operator or NTP does; monotonic time stands."""
        self._now += timedelta(seconds=seconds)
