"""A task as the whole system sees it, and what became of it.

The meaning of every field, and where it is read from, is in ``canonical``; the files they stand in are described by
the rooms that write them.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final, Literal, Protocol

import msgspec

Split = Literal["training", "validation"]
SPLITS: Final[tuple[Split, ...]] = ("training", "validation")

COMPLETED: Final = "completed"
FAILED: Final = "failed"
CANCELLED: Final = "cancelled"
FINAL_STATUSES: Final = frozenset({COMPLETED, FAILED, CANCELLED})


class Canonical(msgspec.Struct, frozen=True, gc=False):
    """One reading of a task record, whoever wrote it; appended to every silver line under ``canonical``.

    Times are aware and in UTC (RFC 3339 with ``Z`` in JSON), durations are seconds, ``quality_score`` is 1 to 5,
    ``cost_usd`` is US dollars. ``input_field`` and ``output_field`` are dotted paths into the record: long texts are
    not repeated.
    """

    task_id: str
    master: str | None
    task_type: str | None
    input_field: str | None
    output_field: str | None
    status: str | None
    quality_score: int | float | None
    created_at: datetime | None
    started_at: datetime | None
    completed_at: datetime | None
    duration_seconds: int | float | None
    error: str | None
    retry_count: int
    model: str | None
    variant: str | None
    experiment: str | None
    fallback_from: str | None
    cost_usd: int | float | None
    flags: list[str]


COMPACT: Final = 0
SPACED: Final = 1
LOOSE: Final = 2


class Layout(Protocol):
    """The keys of a record in their order; hashed by identity, so that what follows from it is looked up cheaply."""

    keys: tuple[str, ...]


class Task(msgspec.Struct, frozen=True, gc=False):
    """A canonical reading and the facts that decide about it.

    ``layout`` stands for the record's keys in their order (records with the same keys share one object), and
    ``spacing`` tells how it is written: :data:`COMPACT` without white space between tokens, :data:`SPACED` with one
    space after each colon and comma of its top level, or :data:`LOOSE` in any other way.
    ``day`` is the UTC day of completion, else of creation, as the number YYYYMMDD; ``final`` tells whether the status
    is one that counts as an outcome; ``rank_us`` (microseconds since 1970) orders the records of one task;
    ``output_chars`` counts the visible characters of the output up to ``canonical.OUTPUT_CHARS_CAP``, 0 for a
    placeholder.
    """

    layout: Layout
    spacing: int
    canonical: Canonical
    day: int | None
    final: bool
    rank_us: int
    created_us: int | None
    completed_us: int | None
    output_chars: int


class Rejected(msgspec.Struct, frozen=True):
    """A JSON object that cannot be a task, and why."""

    reason: str
