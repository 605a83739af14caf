"""Rows of the state about scores: what may be judged, what is on its way, what came back and what it cost.

Money is in millionths of a US dollar, as whole numbers.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

MICRO_USD: Final = 1_000_000
OTHER_REASONS: Final = "other reasons"

QualitySource = Literal["person", "judge"]
"""Whose score stands for a task where it is not the task's own."""


class Quality(NamedTuple):
    """The score that counts for a task instead of its own, or in place of none."""

    score: float
    source: QualitySource


class Candidate(NamedTuple):
    """A final task as the choice of what to judge sees it: the gate's facts, its master, and its record.

    ``quality`` is a person's label or the task's own score, never a judge's.
    """

    id: int
    task_id: str
    status: str | None
    output_chars: int
    errored: int
    retries: int
    quality: int | float | None
    duration: int | float | None
    master: str | None
    source: int
    source_offset: int
    created_us: int | None = None


class Judged(NamedTuple):
    """A score that is there: which record it was made for, and what that held."""

    task_id: str
    overall: float
    model: str
    rubric: str
    source: int
    source_offset: int
    digest: bytes


class Score(NamedTuple):
    """A judge's score of a task, with all that tells how it came about; as the table ``scores`` has it."""

    task_id: str
    overall: float
    task_success: int
    correctness: int
    completeness: int
    clarity: int
    rationale: str
    model: str
    answered_by: str
    rubric: str
    cost: int
    request_id: str | None
    scored_us: int
    source: int
    source_offset: int
    digest: bytes


class Label(NamedTuple):
    """A person's score of a task."""

    task_id: str
    score: float
    note: str
    by: str
    labelled_us: int


class Waiting(NamedTuple):
    """A task in the queue whose turn may come."""

    id: int
    task_id: str
    attempts: int
    forced: int


class Sent(NamedTuple):
    """A task that was sent to the judge: under which number, in which batch, and what of it."""

    id: int
    task_id: str
    attempts: int
    again: int
    batch: str | None
    rubric: str
    source: int
    source_offset: int
    digest: bytes
    reserve: int
    sent_day: int


class Sending(NamedTuple):
    """What is noted of a task before it is sent; see :class:`Sent`."""

    id: int
    batch: str | None
    rubric: str
    source: int
    source_offset: int
    digest: bytes
    reserve: int
    sent_day: int


class OpenBatch(NamedTuple):
    """A batch whose results are not all stored; without ``batch_id`` it is not known whether it was taken."""

    token: str
    batch_id: str | None
    model: str
    asked: int
    intended_us: int


class Spent(NamedTuple):
    """What requests of one day and model took, in tokens and money."""

    requests: int = 0
    lost: int = 0
    input_tokens: int = 0
    cache_write_tokens: int = 0
    cache_read_tokens: int = 0
    output_tokens: int = 0
    cost: int = 0


class Pair(NamedTuple):
    """A task that the judge has scored and somebody else too: ``other`` is a person's label or the task's own score."""

    master: str | None
    judge: float
    other: float


class QueueCounts(NamedTuple):
    """How many tasks of the queue wait, are on their way alone or in batches, or were set aside, by reason.

    Reasons may name numbers or repeat what a provider says, so there are many: of the rarer ones
    :data:`OTHER_REASONS` tells the sum. ``examples`` names a task of each other one.
    """

    waiting: int
    sent: int
    batches: int
    set_aside: dict[str, int]
    examples: tuple[str, ...]
