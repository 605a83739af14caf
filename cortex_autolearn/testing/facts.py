"""What the simulated fleet wrote, and what must come of it: an oracle for tests of the package.

The rules stand here a second time, in the plainest words, and nothing of the package's own reading of records is
imported. ``fleet`` decides the facts of each record first and writes its bytes from them; nothing here reads bytes.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice

FINAL = ("completed", "failed", "cancelled")

# The collector's default rule.
LEAST_VISIBLE = 20
LEAST_QUALITY = 4.0
LEAST_DURATION_S = 10
MOST_DURATION_S = 600
TRAINING_PERCENT = 80

PLACEHOLDERS = ("null", "{}", "N/A", "OK")
"""Outputs that say nothing, as the fleet writes them."""


@dataclass(frozen=True, slots=True)
class Facts:
    """One record as it must be read, whatever shape it was written in. Times are in UTC, as precise as written."""

    task_id: str
    master: str
    task_type: str
    input: str
    status: str
    """``completed``, ``failed`` or ``cancelled``, which are final, else the word as written."""
    created_at: datetime | None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    updated_at: datetime | None = None
    ingested_at: datetime | None = None
    output: str | None = None
    quality_score: float | None = None
    duration_seconds: float | None = None
    error: str | None = None
    retry_count: int = 0
    model: str | None = None

    @property
    def final(self) -> bool:
        """Whether the record counts as an outcome."""
        return self.status in FINAL

    @property
    def instant(self) -> datetime:
        """By what two records of one task are compared in time; none is lowest."""
        return self.completed_at or self.updated_at or self.ingested_at or datetime.min.replace(tzinfo=UTC)

    @property
    def day(self) -> str:
        """The silver day (``YYYYMMDD``)."""
        return f"{self.completed_at or self.created_at:%Y%m%d}"

    @property
    def reason(self) -> str | None:
        """Why the collector's default rule rejects this final record, else None."""
        output = self.output or ""
        duration_s = self.duration_seconds
        faults = (
            (self.status != "completed", "Not successful"),
            (output in PLACEHOLDERS or not says_something(output), "No output"),
            (self.error is not None, "Has errors"),
            (self.retry_count > 0, "Has retries"),
            (self.quality_score is None, "No quality score"),
            (self.quality_score is not None and self.quality_score < LEAST_QUALITY, "Quality score too low"),
            (duration_s is not None and duration_s < LEAST_DURATION_S, "Too fast (trivial)"),
            (duration_s is not None and duration_s > MOST_DURATION_S, "Too slow (timeout)"),
            (duration_s is None, "Duration unknown"),
        )
        return next((reason for applies, reason in faults if applies), None)

    @property
    def high_quality(self) -> bool:
        """Whether the collector's default rule keeps this record, should it stand."""
        return self.final and self.reason is None


@dataclass(frozen=True, slots=True)
class Truth:
    """What a right reader finds in one write. Of a torn write, the half that ends the record holds it."""

    kind: str
    """``record``, ``duplicate``, ``late``, ``correction``, or one of ``fleet.KINDS``."""
    task_id: str | None
    """The task the write is about; None where its bytes do not tell."""
    high_quality: bool
    """Whether that task is a high-quality outcome once every record of it has arrived."""
    split: str | None
    """Where that task goes if it is one."""
    records: tuple[Facts, ...] = ()
    """The records that become silver or are superseded, in order."""
    quarantined_objects: int = 0
    """Objects that are JSON and cannot become silver."""
    quarantined_stretches: int = 0
    """Stretches that are not JSON."""

    @property
    def objects(self) -> int:
        """How many objects a reader yields here."""
        return len(self.records) + self.quarantined_objects


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes to append at one instant to one bronze file."""

    at: datetime
    file: str
    data: bytes
    truth: Truth


@dataclass(frozen=True, slots=True)
class Expected:
    """What must have come of a number of writes when all of them are read and the default rule has been applied."""

    bytes: int
    objects: int
    superseded: int
    """Records that no longer stand, when all is read in one run."""
    quarantined_objects: int
    quarantined_stretches: int
    standing: Mapping[str, Facts]
    """Task id to the record that stands for it."""
    rejected: Mapping[str, int]
    """Reason to number of final tasks."""
    collected: Mapping[str, str]
    """Task id of each high-quality task to its split."""
    fallen: frozenset[str]
    """Tasks of which some record passes, but not the one that stands; collected in between, they are withdrawn."""

    @property
    def quarantined(self) -> int:
        """Objects and stretches in quarantine."""
        return self.quarantined_objects + self.quarantined_stretches

    @property
    def tasks(self) -> int:
        """Tasks seen, final or not."""
        return len(self.standing)

    @property
    def final_tasks(self) -> int:
        """Tasks that count as outcomes."""
        return sum(facts.final for facts in self.standing.values())

    @property
    def high_quality(self) -> int:
        """Tasks collected."""
        return len(self.collected)

    @property
    def training(self) -> int:
        """Tasks collected for training."""
        return sum(split == "training" for split in self.collected.values())

    @property
    def validation(self) -> int:
        """Tasks collected for validation."""
        return self.high_quality - self.training

    @property
    def tasks_by_day(self) -> dict[str, int]:
        """Silver day (``YYYYMMDD``) to the number of tasks whose standing record lies there."""
        return dict(sorted(Counter(facts.day for facts in self.standing.values()).items()))


def expect(writes: Iterable[Write]) -> Expected:
    """Return what must come of ``writes``, given in the order in which they are appended."""
    places: dict[str, list[tuple[Facts, str, int]]] = {}
    size = objects = bad_objects = stretches = sequence = 0
    for write in writes:
        size += len(write.data)
        objects += write.truth.objects
        bad_objects += write.truth.quarantined_objects
        stretches += write.truth.quarantined_stretches
        for facts in write.truth.records:
            sequence += 1
            places.setdefault(facts.task_id, []).append((facts, write.file, sequence))

    standing = {task_id: standing_record(records) for task_id, records in places.items()}
    outcomes = {task_id: facts for task_id, facts in standing.items() if facts.final}
    return Expected(
        bytes=size,
        objects=objects,
        superseded=objects - bad_objects - len(standing),
        quarantined_objects=bad_objects,
        quarantined_stretches=stretches,
        standing=standing,
        rejected=dict(Counter(facts.reason for facts in outcomes.values() if facts.reason is not None)),
        collected={task_id: split_of(task_id) for task_id, facts in outcomes.items() if facts.high_quality},
        fallen=frozenset(
            task_id
            for task_id, records in places.items()
            if not standing[task_id].high_quality and any(facts.high_quality for facts, _, _ in records)
        ),
    )


def standing_record(records: Iterable[tuple[Facts, str, int]]) -> Facts:
    """Return which record of one task stands; each comes with its file and its position in the order of writing."""

    def rank(place: tuple[Facts, str, int]) -> tuple[bool, datetime, str, int]:
        facts, file, sequence = place
        return facts.final, facts.instant, file, sequence

    return max(records, key=rank)[0]


def split_of(task_id: str) -> str:
    """Return ``training`` for four fifths of all ids, ``validation`` for the rest."""
    bucket = int(hashlib.sha256(task_id.encode()).hexdigest()[:8], 16) % 100
    return "training" if bucket < TRAINING_PERCENT else "validation"


def says_something(text: str) -> bool:
    """Tell whether enough of the characters are neither separators nor controls."""
    visible = (character for character in text if unicodedata.category(character)[0] not in "ZC")
    return len(list(islice(visible, LEAST_VISIBLE))) == LEAST_VISIBLE
