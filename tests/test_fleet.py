"""The simulated fleet and the fake clock: what those who test against them rely on.

Records are read back here with the standard library alone, so that neither the fleet nor the package vouches for it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, timezone
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cortex_autolearn.testing import (
    BROKEN,
    HARMLESS,
    KINDS,
    MASTERS,
    UNUSABLE,
    Facts,
    FakeClock,
    Fleet,
    Truth,
    Write,
    append,
    expect,
)

if TYPE_CHECKING:
    from cortex_autolearn.ports import Clock

START = datetime(2025, 11, 27, tzinfo=UTC)
LATER = START + timedelta(hours=1)
SEEDS = range(4)
DAYS = 25

STATUSES = {
    "success": "completed",
    "done": "completed",
    "error": "failed",
    "timeout": "failed",
    "zombie": "failed",
    "canceled": "cancelled",
    "skipped": "cancelled",
}


@cache
def world(seed: int) -> tuple[Write, ...]:
    """Return 25 days of a fleet."""
    return tuple(Fleet(seed, start=START).writes(DAYS))


# Reading


def no_constant(word: str) -> None:
    """Refuse ``NaN`` and its like, which ``json`` takes by default."""
    raise ValueError(word)


def no_key_twice(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Mark an object that repeats a key."""
    keys = [key for key, _ in pairs]
    return dict(pairs) if len(set(keys)) == len(keys) else {"repeats": True}


WHITE_SPACE = re.compile(r"[ \t\r\n]+")

DECODER = json.JSONDecoder(parse_constant=no_constant, object_pairs_hook=no_key_twice)


def objects_in(data: bytes) -> list[dict[str, Any]]:
    """Return the objects in a stretch of nothing but JSON, white space and one BOM."""
    text = data.decode().removeprefix("\ufeff")
    place, found = len(text) - len(text.lstrip()), []
    while place < len(text):
        value, end = DECODER.raw_decode(text, place)
        found.append(value)
        space = WHITE_SPACE.match(text, end)
        place = end if space is None else space.end()
    return found


def is_usable(record: dict[str, Any]) -> bool:
    """Whether the object has a task id and no key twice."""
    return "repeats" not in record and bool(record.get("task_id") or record.get("id"))


def first(record: dict[str, Any], *paths: str) -> Any:  # noqa: ANN401 - whatever the record holds
    """Return the first of the dotted ``paths`` that holds something."""
    for path in paths:
        value: Any = record
        for key in path.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        if value not in (None, "", [], {}):
            return value
    return None


def when(text: str | None) -> datetime | None:
    """Return an instant in UTC."""
    return None if text is None else datetime.fromisoformat(text).astimezone(UTC)


def read(record: dict[str, Any]) -> Facts:
    """Read one record by the table in the file formats, as far as this fleet makes use of it."""
    status = record["status"].lower()
    completed_at = when(first(record, "completed_at", "completion_time"))
    started_at = when(first(record, "started_at", "execution_summary.started_at"))
    duration = first(record, "duration_seconds", "execution_summary.duration_seconds")
    milliseconds = first(record, "metadata.processing_time_ms")
    if duration is None and milliseconds is not None:
        duration = milliseconds / 1000
    if duration is None and completed_at is not None and started_at is not None:
        duration = (completed_at - started_at).total_seconds()
    output = first(record, "output", "result.summary", "work_summary")
    return Facts(
        task_id=first(record, "task_id", "id"),
        master=first(record, "master", "parent_master", "assigned_to").removesuffix("-master") + "-master",
        task_type=first(record, "task_type", "type"),
        input=first(record, "input", "context.task_description", "description"),
        status=STATUSES.get(status, status),
        created_at=when(first(record, "created_at")),
        started_at=started_at,
        completed_at=completed_at,
        updated_at=when(first(record, "updated_at")),
        ingested_at=when(first(record, "ingested_at")),
        output=output,
        quality_score=first(record, "quality_score", "quality_metrics.quality_score"),
        duration_seconds=duration,
        error=first(record, "error", "failure_reason") or (record.get("errors") or [None])[0],
        retry_count=first(record, "retry_count", "retries") or record.get("attempts", 1) - 1,
        model=first(record, "model"),
    )


def by_file(writes: Iterable[Write]) -> dict[str, list[Write]]:
    """Group writes by file, in order."""
    files: dict[str, list[Write]] = {}
    for write in writes:
        files.setdefault(write.file, []).append(write)
    return files


# The same bytes everywhere


def test_three_days_of_seed_7_never_change() -> None:
    """A seed names the same bytes, at the same instants, on every Python and for ever."""
    digest = hashlib.sha256()
    for write in Fleet(7, start=START).writes(3):
        digest.update(f"{write.at.isoformat()} {write.file} {len(write.data)}\n".encode() + write.data)
    assert digest.hexdigest() == "bdf0506b84d2565781ffd69bf32aa3dc63a0f687cfe6298fbcc658bc72cd31a9"


def test_a_day_is_the_same_whatever_was_asked_before() -> None:
    """Days can be had in any order and more than once."""
    fleet = Fleet(3, start=START)
    forwards = [fleet.day(day) for day in range(6)]
    assert [fleet.day(day) for day in (5, 0, 3)] == [forwards[5], forwards[0], forwards[3]]
    assert Fleet(3, start=START).day(5) == forwards[5]
    assert Fleet(4, start=START).day(5) != forwards[5]


def test_writes_come_in_order_and_on_their_day() -> None:
    """Within a day instants never go back, and none lies outside the day."""
    fleet = Fleet(5, start=START)
    for day in range(6):
        instants = [write.at for write in fleet.day(day)]
        assert instants == sorted(instants)
        assert START + timedelta(days=day) <= instants[0] <= instants[-1] <= START + timedelta(days=day + 1)


# Truth against bytes


@pytest.mark.parametrize("seed", SEEDS)
def test_every_record_reads_as_its_facts(seed: int) -> None:
    """What the truth says of a record is what its bytes say, in every shape and style."""
    seen = 0
    for writes in by_file(world(seed)).values():
        good = [write for write in writes if write.truth.kind not in BROKEN]
        records = [record for record in objects_in(b"".join(write.data for write in good)) if is_usable(record)]
        facts = [fact for write in good for fact in write.truth.records]
        assert [read(record) for record in records] == facts
        seen += len(facts)
    assert seen > 4_000


@pytest.mark.parametrize("seed", SEEDS)
def test_counts_add_up_with_the_bytes(seed: int) -> None:
    """Objects, unusable objects and broken stretches are as many as the files hold."""
    objects = unusable = broken = size = 0
    for writes in by_file(world(seed)).values():
        size += sum(len(write.data) for write in writes)
        broken += sum(write.truth.kind in BROKEN for write in writes)
        found = objects_in(b"".join(write.data for write in writes if write.truth.kind not in BROKEN))
        objects += len(found)
        unusable += sum(not is_usable(record) for record in found)
    expected = expect(world(seed))
    assert expected == Fleet(seed, start=START).expected(DAYS)
    assert expected.objects == objects
    assert expected.bytes == size
    assert expected.quarantined_objects == unusable
    assert expected.quarantined_stretches == broken
    assert expected.quarantined == unusable + broken
    assert expected.superseded == objects - unusable - expected.tasks
    assert sum(expected.rejected.values()) + expected.high_quality == expected.final_tasks
    assert sum(expected.tasks_by_day.values()) == expected.tasks
    assert expected.training + expected.validation == expected.high_quality


@pytest.mark.parametrize("seed", SEEDS)
def test_broken_stretches_are_broken_and_stand_alone(seed: int) -> None:
    """A broken stretch cannot be decoded, and a good record follows it in its file, so that no two touch."""
    for writes in by_file(world(seed)).values():
        for place, write in enumerate(writes):
            if write.truth.kind not in BROKEN:
                continue
            with pytest.raises(ValueError):  # noqa: PT011 - of JSON or of UTF-8, by any reason
                objects_in(write.data)
            after = writes[place + 1].truth
            assert after.records
            assert after.kind not in KINDS
            assert write.truth.objects == 0


def test_a_torn_record_is_whole_before_anything_else_follows() -> None:
    """Between the halves of a torn record nothing is written to its file."""
    torn = 0
    for writes in by_file(world(2)).values():
        for former, latter in pairwise(writes):
            if former.truth.kind == "torn" and not former.truth.records:
                assert len(objects_in(former.data + latter.data)) == 1
                torn += 1
    assert torn >= 3


def test_what_a_write_promises_of_its_task_comes_true() -> None:
    """The verdict a write carries is that of the task once all of its records have arrived."""
    fleet = Fleet(1, start=START)
    born = {task.task_id for day in range(DAYS - 4) for task in fleet.tasks(day)}
    collected = expect(world(1)).collected
    for write in world(1):
        task_id = write.truth.task_id
        if task_id in born:
            assert write.truth.high_quality == (task_id in collected)
            assert write.truth.split == collected.get(task_id, write.truth.split)


# A believable fleet


@pytest.mark.parametrize("seed", SEEDS)
def test_the_mission_takes_its_time(seed: int) -> None:
    """40 to 50 % of tasks are kept, so that 1,000 for training take 25 days at 130 a day, and 4 of 5 train."""
    expected = Fleet(seed, start=START, tasks_per_day=130).expected(25)
    assert 0.40 < expected.high_quality / expected.tasks < 0.50
    assert 0.76 < expected.training / expected.high_quality < 0.84
    assert expected.training >= 1_000
    assert expected.tasks / (130 * 25) > 0.99


@pytest.mark.parametrize("seed", SEEDS)
def test_outcomes_are_spread_as_in_a_real_fleet(seed: int) -> None:
    """About 92 % are completed; every reason to reject occurs; retries, late records and corrections, too."""
    expected = expect(world(seed))
    finals = [facts for facts in expected.standing.values() if facts.final]
    statuses = Counter(facts.status for facts in finals)
    assert 0.87 < statuses["completed"] / len(finals) < 0.95
    assert statuses["failed"] > statuses["cancelled"] > 0
    assert set(expected.rejected) == {
        "Not successful", "No output", "Has errors", "Has retries", "No quality score", "Quality score too low",
        "Too fast (trivial)", "Too slow (timeout)", "Duration unknown",
    }  # fmt: skip
    assert 0.05 < sum(facts.quality_score is None for facts in finals) / len(finals) < 0.16
    assert all(1 <= facts.quality_score <= 5 for facts in finals if facts.quality_score is not None)
    assert len(expected.fallen) >= 5
    kinds = Counter(write.truth.kind for write in world(seed))
    assert kinds["late"] > 20
    assert kinds["duplicate"] > 50
    assert kinds["correction"] > 20
    assert expected.objects > 2 * expected.tasks
    assert {facts.master for facts in finals} == set(MASTERS)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_blemish_occurs_within_four_days(seed: int) -> None:
    """At the default rate each kind of blemish turns up within four days, whatever the seed."""
    kinds = {write.truth.kind for write in world(seed) if write.at < START + timedelta(days=4)}
    assert kinds >= {*BROKEN, *UNUSABLE, *HARMLESS}


def test_writing_styles_are_mixed_within_a_file() -> None:
    """Compact and pretty records, and all ways to write a time, stand in one and the same file."""
    data = b"".join(write.data for write in Fleet(1, start=START).day(0) if write.file == "tasks-20251127.jsonl")
    for trace in (b'{"task_id":"', b'{\n  "id": "', b"-0600", b'Z"', b".", b"\\u", "ü".encode()):
        assert trace in data


@pytest.mark.parametrize("master", MASTERS)
def test_inputs_of_a_master_differ(master: str) -> None:
    """A master is hardly ever asked the same twice: thousands of different inputs."""
    fleet = Fleet(1, start=START, tasks_per_day=3_000, masters=[master])
    tasks = fleet.tasks(0)
    assert len({task.brief.ask for task in tasks}) > 2_000
    assert len({task.brief.good for task in tasks}) > 2_900
    assert not any(brace in text for task in tasks for text in (task.brief.ask, task.brief.good) for brace in "{}")


def test_task_ids_are_unique() -> None:
    """No two tasks share an id."""
    fleet = Fleet(9, start=START, tasks_per_day=2_000)
    ids = [task.task_id for day in range(5) for task in fleet.tasks(day)]
    assert len(set(ids)) == len(ids)


def test_what_a_fleet_cannot_be_is_refused() -> None:
    """A naive or foreign start, no tasks, or a master without work is an error at once."""
    with pytest.raises(ValueError, match="aware UTC"):
        Fleet(1, start=START.replace(tzinfo=None))
    with pytest.raises(ValueError, match="aware UTC"):
        Fleet(1, start=START.astimezone(timezone(timedelta(hours=1))))
    with pytest.raises(ValueError, match="1 or more"):
        Fleet(1, start=START, tasks_per_day=0)
    with pytest.raises(ValueError, match="not kitchen-master"):
        Fleet(1, start=START, masters=["kitchen-master"])
    with pytest.raises(ValueError, match="not none"):
        Fleet(1, start=START, masters=[])
    with pytest.raises(ValueError, match="first day is 0"):
        Fleet(1, start=START).day(-1)


def test_a_tiny_fleet_works() -> None:
    """One task a day is a fleet, too."""
    expected = Fleet(1, start=START, tasks_per_day=1, masters=["security-master"]).expected(30)
    assert 28 <= expected.tasks <= 30


# The oracle's rules, by hand


def record(status: str = "completed", **changes: Any) -> Facts:  # noqa: ANN401 - any field
    """Return facts that pass, unless changed."""
    passing: dict[str, Any] = {
        "task_id": "t-1", "master": "security-master", "task_type": "scan", "input": "?", "status": status,
        "created_at": START, "started_at": START, "completed_at": LATER, "output": "x" * 20, "quality_score": 4.0,
        "duration_seconds": 10, "error": None, "retry_count": 0,
    }  # fmt: skip
    return Facts(**(passing | changes))


def written(facts: Facts, file: str = "a.jsonl") -> Write:
    """Return a write of one record."""
    truth = Truth("record", facts.task_id, high_quality=False, split=None, records=(facts,))
    return Write(START, file, b"{}\n", truth)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"duration_seconds": 600}, None),
        ({"status": "failed", "output": None}, "Not successful"),
        ({"output": None, "error": "x"}, "No output"),
        ({"output": " \n\u200b".join("x" * 19)}, "No output"),
        ({"output": "N/A"}, "No output"),
        ({"error": "x", "retry_count": 1}, "Has errors"),
        ({"retry_count": 1, "quality_score": None}, "Has retries"),
        ({"quality_score": None, "duration_seconds": 1}, "No quality score"),
        ({"quality_score": 3.9, "duration_seconds": 1}, "Quality score too low"),
        ({"duration_seconds": 9.9}, "Too fast (trivial)"),
        ({"duration_seconds": 600.1}, "Too slow (timeout)"),
        ({"duration_seconds": None}, "Duration unknown"),
    ],
)
def test_the_first_reason_that_applies_is_given(changes: dict[str, Any], reason: str | None) -> None:
    """The default rule at its borders, in its order."""
    assert record(**changes).reason == reason


@pytest.mark.parametrize(
    ("losing", "standing"),
    [
        (written(record("running", completed_at=LATER)), written(record(completed_at=None))),
        (written(record(completed_at=START)), written(record("failed", completed_at=LATER))),
        (written(record(completed_at=None)), written(record("failed", completed_at=None, updated_at=START))),
        (
            written(record(completed_at=None, ingested_at=START)),
            written(record("failed", completed_at=START + timedelta(microseconds=1))),
        ),
        (written(record(), "a.jsonl"), written(record("failed"), "b.jsonl")),
    ],
    ids=["final beats unfinished", "later beats earlier", "a time beats none", "any of three times", "later file"],
)
def test_one_record_of_a_task_stands(losing: Write, standing: Write) -> None:
    """Which record stands does not depend on which is written first, as long as something else tells them apart."""
    for order in ((losing, standing), (standing, losing)):
        assert expect(order).standing == {"t-1": standing.truth.records[0]}


def test_in_one_file_the_later_of_equals_stands() -> None:
    """Where nothing else tells two records of a task apart, the later offset does."""
    expected = expect([written(record()), written(record("failed"))])
    assert expected.standing["t-1"].status == "failed"
    assert expected.rejected == {"Not successful": 1}
    assert expected.fallen == {"t-1"}
    assert expected.superseded == 1


# Delivery and clock


def test_append_writes_where_bronze_lies(tmp_path: Path) -> None:
    """Appended writes make up the bronze files, byte for byte."""
    writes = Fleet(1, start=START, tasks_per_day=10).day(0)
    for write in writes:
        append(tmp_path, write)
    folder = tmp_path / "coordination" / "medallion" / "bronze" / "raw-tasks"
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert files == {file: b"".join(write.data for write in group) for file, group in by_file(writes).items()}


def test_a_fake_clock_moves_only_when_told() -> None:
    """Time passes on both clocks, a step moves the wall clock alone."""
    fake = FakeClock(START, monotonic=5.0)
    clock: Clock = fake
    assert (clock.now(), clock.monotonic()) == (START, 5.0)
    fake.advance(90)
    assert (clock.now(), clock.monotonic()) == (START + timedelta(seconds=90), 95.0)
    fake.step(-3_600)
    assert (clock.now(), clock.monotonic()) == (START + timedelta(seconds=90 - 3_600), 95.0)
    fake.advance(0)
    assert clock.monotonic() == 95.0


def test_a_fake_clock_refuses_what_no_clock_does() -> None:
    """Monotonic time never goes back, and the wall clock is aware and in UTC."""
    with pytest.raises(ValueError, match="forwards only"):
        FakeClock(START).advance(-1)
    with pytest.raises(ValueError, match="forwards only"):
        FakeClock(START).advance(float("nan"))
    with pytest.raises(ValueError, match="aware UTC"):
        FakeClock(START.replace(tzinfo=None))
