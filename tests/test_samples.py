"""Records in the shapes that orchestrators and benchmarks really write, and what must be read from each.

The shapes are those met in the field; names and words are ours. Each expectation was worked out by hand.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from support import Rooms, quick_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

EMPTY: dict[str, Any] = {
    "master": None,
    "task_type": None,
    "input_field": None,
    "output_field": None,
    "status": "completed",
    "quality_score": None,
    "created_at": None,
    "started_at": None,
    "completed_at": None,
    "duration_seconds": None,
    "error": None,
    "retry_count": 0,
    "model": None,
    "variant": None,
    "experiment": None,
    "fallback_from": None,
    "cost_usd": None,
    "flags": [],
}

COMPLETION_REPORT = {
    "worker_id": "worker-build-012",
    "task_id": "e2e-1",
    "task_title": "Write a greeting script",
    "status": "completed",
    "started_at": "2025-10-03T08:15:02-0600",
    "completed_at": "2025-10-03T08:15:44-0600",
    "duration_seconds": 42,
    "deliverables": [{"type": "script", "path": "bin/greet.sh", "description": "greets", "verified": True}],
    "execution_summary": {"steps_completed": ["looked", "wrote", "ran"], "services_checked": {"uptime_seconds": 12.5}},
    "metadata": {"expected_duration_minutes": 5, "actual_duration_minutes": 0.7},
    "issues_encountered": [],
}
EXECUTION_LOG = {
    "worker_id": "worker-build-013",
    "task_id": "log-1",
    "task_title": "Speed up the query layer",
    "task_type": "bug-fix",
    "execution_start": "2025-10-03T09:00:00-0600",
    "test_context": {"is_test_task": True},
    "actions_taken": ["read the code", "found nothing to do"],
    "status": "completed",
    "execution_end": "2025-10-03T09:00:45-0600",
    "conclusion": "Nothing slow was found; two filters could be indexed.",
}
FINISHED_TASK = {
    "task_id": "done-1",
    "title": "Audit the production hosts",
    "type": "security",
    "status": "completed",
    "worker_id": "worker-scan-3",
    "assigned_at": "2025-10-03T10:30:00-0600",
    "started_at": "2025-10-03T16:31:10Z",
    "completed_at": "2025-10-03T16:34:20Z",
    "duration_seconds": 190,
    "results": {"status": "success", "scans_completed": 4, "findings": {"critical": 0, "low": 2}},
    "output_artifacts": {"log": "logs/scan.log"},
}
NESTED_COMPLETION = {
    "task_id": "nested-1",
    "original_task": {
        "id": "nested-1",
        "title": "Mend the login",
        "type": "security",
        "description": "Mend the timing leak in the login",
        "assigned_to": "security",
        "created_at": "2025-10-02T20:00:00-0600",
    },
    "completion": {
        "worker_id": "worker-scan-4",
        "worker_type": "scan-worker",
        "completed_at": "2025-10-03T10:00:30-0600",
        "duration_minutes": 4,
        "status": "completed",
        "outcome": "success",
    },
    "results": {"vulnerabilities_found": 1, "deliverables": ["analysis.md"]},
}
QUEUE_ENTRY = {
    "id": "queue-1",
    "title": "Mend the cache key",
    "type": "bug-fix",
    "description": "Mend the cache key",
    "priority": "medium",
    "status": "completed",
    "assigned_to": "development",
    "created_at": "2025-10-03T11:20:00-0600",
    "created_by": "planner",
    "completed_at": "2025-10-03T17:20:50Z",
    "context": {},
    "result": {"status": "success", "bug_identified": "the list was sorted in place", "tests_passing": 6},
}
WORKER_SPEC = {
    "worker_id": "dev-worker-7",
    "worker_type": "feature-implementer",
    "parent_master": "development",
    "task_id": "spec-1",
    "task_title": "Lineage, phase 3",
    "context": {"task_description": "Record every operation and show where a value came from."},
    "resources": {"token_allocation": 50_000, "time_limit_minutes": 120},
    "status": "running",
    "created_at": "2025-10-03T13:00:00Z",
    "execution": {"started_at": "2025-10-03T07:00:30-0600"},
}
BENCHMARK_ROW = {
    "task_id": "bench-three-sum-0101",
    "master": "uncategorised-master",
    "task_type": "three-sum",
    "input": None,
    "output": None,
    "status": "skipped",
    "quality_score": None,
    "duration_seconds": 61.25,
    "model": "some-agent",
    "completed_at": "2023-01-01T00:25:00+00:00",
    "error": "a test it depends on failed",
    "retry_count": 0,
    "extra": {"cost_usd": None, "started_at": None},
}
WORD_PROBLEM = {
    "task_id": "sum-77",
    "master": "math-master",
    "task_type": "word-problem",
    "input": "Four boxes of six eggs: how many eggs?",
    "output": "4 boxes times 6 eggs are <<4*6=24>>24 eggs.\n#### 24",
    "status": "completed",
    "quality_score": 5.0,
    "model": "big-model",
    "error": None,
    "retry_count": 0,
}

READINGS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    (
        "completion report",
        COMPLETION_REPORT,
        {
            "task_id": "e2e-1",
            "input_field": "task_title",
            "started_at": "2025-10-03T14:15:02Z",
            "completed_at": "2025-10-03T14:15:44Z",
            "duration_seconds": 42,
        },
    ),
    (
        "execution log",
        EXECUTION_LOG,
        {
            "task_id": "log-1",
            "task_type": "bug-fix",
            "input_field": "task_title",
            "output_field": "conclusion",
            "started_at": "2025-10-03T15:00:00Z",
            "completed_at": "2025-10-03T15:00:45Z",
            "duration_seconds": 45,
        },
    ),
    (
        "finished task",
        FINISHED_TASK,
        {
            "task_id": "done-1",
            "task_type": "security",
            "input_field": "title",
            "output_field": "results",
            "started_at": "2025-10-03T16:31:10Z",
            "completed_at": "2025-10-03T16:34:20Z",
            "duration_seconds": 190,
        },
    ),
    (
        "nested completion",
        NESTED_COMPLETION,
        {
            "task_id": "nested-1",
            "master": "security-master",
            "task_type": "security",
            "input_field": "original_task.description",
            "output_field": "results",
            "created_at": "2025-10-03T02:00:00Z",
            "completed_at": "2025-10-03T16:00:30Z",
            "duration_seconds": 14 * 3600 + 30,
        },
    ),
    (
        "queue entry",
        QUEUE_ENTRY,
        {
            "task_id": "queue-1",
            "master": "development-master",
            "task_type": "bug-fix",
            "input_field": "description",
            "output_field": "result",
            "created_at": "2025-10-03T17:20:00Z",
            "completed_at": "2025-10-03T17:20:50Z",
            "duration_seconds": 50,
        },
    ),
    (
        "worker spec",
        WORKER_SPEC,
        {
            "task_id": "spec-1",
            "master": "development-master",
            "task_type": "feature-implementer",
            "input_field": "context.task_description",
            "status": "running",
            "created_at": "2025-10-03T13:00:00Z",
            "started_at": "2025-10-03T13:00:30Z",
        },
    ),
    (
        "benchmark row",
        BENCHMARK_ROW,
        {
            "task_id": "bench-three-sum-0101",
            "master": "uncategorised-master",
            "task_type": "three-sum",
            "status": "cancelled",
            "completed_at": "2023-01-01T00:25:00Z",
            "duration_seconds": 61.25,
            "error": "a test it depends on failed",
            "model": "some-agent",
        },
    ),
    (
        "word problem",
        WORD_PROBLEM,
        {
            "task_id": "sum-77",
            "master": "math-master",
            "task_type": "word-problem",
            "input_field": "input",
            "output_field": "output",
            "quality_score": 5.0,
            "model": "big-model",
        },
    ),
]


@pytest.fixture
def rooms() -> Iterator[Rooms]:
    with quick_folder() as root:
        made = Rooms(root)
        yield made
        made.close()


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize(("shape", "record", "expected"), READINGS, ids=[one[0] for one in READINGS])
def test_each_shape_is_read_rightly(
    rooms: Rooms, shape: str, record: dict[str, Any], expected: dict[str, Any], indent: int | None
) -> None:
    """Every field of the reading, as a person reads it from the record."""
    rooms.put("a.jsonl", json.dumps(record, indent=indent).encode() + b"\n")
    rooms.refine()
    (silver,) = rooms.silver_objects()
    assert silver["canonical"] == {**EMPTY, **expected}, shape
    ours = {"layer", "canonical"}
    assert {key: silver[key] for key in record if key not in ours} == {k: v for k, v in record.items() if k not in ours}


def test_what_is_no_task_is_accounted_for(rooms: Rooms) -> None:
    """Measurements and routing decisions have no task id of their own: quarantined, one by one, none lost."""
    measured = {
        "timestamp": "2025-10-03T13:00:00-0600",
        "model": "m",
        "quality_score": 0.8,
        "cost": 0.01,
        "success": True,
    }
    routed = {"decision_id": "d-1", "task": {"task_id": "inner", "description": "x"}, "outcome": {"quality_score": 0.9}}
    rooms.put("a.jsonl", *[json.dumps(measured, indent=2).encode() + b"\n"] * 4, routed, routed)
    counts = rooms.refine()
    assert (counts["objects"], counts["silver"], counts["quarantined_objects"]) == (6, 0, 6)
    assert {one["reason"] for one in rooms.quarantine()} == {"no task id"}
    assert len({one["offset"] for one in rooms.quarantine()}) == 6


def test_all_shapes_together(rooms: Rooms) -> None:
    """One file of many hands: each record is one task of silver, and only the good ones are collected."""
    for number, (_, record, _) in enumerate(READINGS):
        rooms.put("a.jsonl", json.dumps(record, indent=2 if number % 2 else None).encode() + b"\n")
    counts, tally = rooms.everything()
    assert (counts["silver"], counts["quarantined"]) == (len(READINGS), 0)
    assert tally["processed"] == len(READINGS) - 1
    assert tally["rejected"] == {"No quality score": 4, "Not successful": 1, "No output": 1, "Duration unknown": 1}


def test_two_answers_to_one_task_are_one_task(rooms: Rooms) -> None:
    """Two models answered the same problem under one id: of equals the later one stands."""
    rooms.put("pair.jsonl", WORD_PROBLEM, {**WORD_PROBLEM, "model": "other", "duration_seconds": 20})
    _, tally = rooms.everything()
    (silver,) = rooms.silver_objects()
    assert (silver["model"], tally["high_quality"]) == ("other", 1)
