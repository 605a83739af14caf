"""What only the metrics ask of the state."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3


def last_successes(connection: sqlite3.Connection) -> dict[str, int]:
    """Return when the last kept run of each job ended well, in microseconds since 1970."""
    rows = connection.execute("SELECT job, max(ended_us) FROM runs WHERE result = 'ok' GROUP BY job")
    return {job: int(ended_us) for job, ended_us in rows}


def event_counts(connection: sqlite3.Connection, after: int) -> tuple[dict[str, int], int]:
    """Return how many events of each kind have a higher sequence number than ``after``, and the highest there is."""
    rows = connection.execute("SELECT event, count(*), max(seq) FROM events WHERE seq > ? GROUP BY event", (after,))
    counts: dict[str, int] = {}
    last = after
    for event, count, seq in rows:
        counts[event] = int(count)
        last = max(last, int(seq))
    return counts, last
