"""Rows of the state that rooms and store exchange: what was read, where it stands, what became of it."""

from __future__ import annotations

from typing import NamedTuple

BRONZE_ORIGIN = 0
SILVER_ORIGIN = 1


class Source(NamedTuple):
    """A file that is read, and how far it is settled.

    ``identity`` is device and inode; ``mark`` a digest of bytes before ``position``, empty at 0; ``size`` and
    ``mtime_ns`` are those of the last look, and ``grown_us`` is when the size last changed.
    """

    id: int
    path: str
    identity: str
    mark: bytes
    position: int
    size: int
    mtime_ns: int
    grown_us: int


class Standing(NamedTuple):
    """The record of a task that stands: what orders it against another one, and where its silver line is."""

    id: int
    task_id: str
    final: int
    rank_us: int
    source: int
    source_offset: int
    day: int
    position: int
    length: int


TASK_COLUMNS = (
    "task_id",
    "origin",
    "final",
    "rank_us",
    "source",
    "source_offset",
    "day",
    "position",
    "length",
    "master",
    "status",
    "duration",
    "quality",
    "retries",
    "errored",
    "output_chars",
    "created_us",
    "completed_us",
)
"""Columns of ``tasks`` without its ``id``."""

Facts = tuple[str | None, str | None, int | float | None, int | float | None, int, int, int, int | None, int | None]
"""What a row of ``tasks`` tells of a task itself: its columns from ``master`` on."""

TaskRow = tuple[
    str,
    int,
    int,
    int,
    int,
    int,
    int,
    int,
    int,
    str | None,
    str | None,
    int | float | None,
    int | float | None,
    int,
    int,
    int,
    int | None,
    int | None,
]
"""One row of ``tasks``, in the order of :data:`TASK_COLUMNS`: a plain tuple, as every record of the fleet makes one.

Of plain values, too: SQLite's module looks for an adapter of each bool, which costs more than all else of a row."""


class Ungated(NamedTuple):
    """A final task that waits for the collector's rule, with all that the rule looks at."""

    id: int
    task_id: str
    origin: int
    length: int
    status: str | None
    output_chars: int
    errored: int
    retries: int
    quality: int | float | None
    duration: int | float | None


class Line(NamedTuple):
    """Where the silver line of a task stands: in our file of ``day``, or for origin 1 in the source; and its record."""

    id: int
    task_id: str
    origin: int
    day: int
    position: int
    length: int
    source_path: str
    source_offset: int
    source: int


class Collected(NamedTuple):
    """A task of the high-quality set: its split, where its line stands, the record it rests on, and since when."""

    task_id: str
    split: str
    day: int
    position: int
    length: int
    source: str
    source_offset: int
    text_bytes: int
    collected_us: int


DayTask = tuple[str | None, str, str, int | float | None, int | None, int | None]
"""One final task of a day, as a report lists it: master, task id, status, seconds, created and completed (instants)."""
