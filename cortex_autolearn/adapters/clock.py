"""The machine's clock: the only place where the wall clock is read for what is stored and decided."""

from __future__ import annotations

import time
from datetime import UTC, datetime


class SystemClock:
    """Implements :class:`cortex_autolearn.ports.Clock` with the machine's own time."""

    def now(self) -> datetime:
        """Return the current instant, aware and in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds that never step, from an arbitrary start."""
        return time.monotonic()
