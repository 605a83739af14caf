"""The handwriting of the simulated fleet: one record's facts in the shapes its writers use.

Three shapes (a flat record, an entry of the task queue, a worker's report) times several ways to write a time, a
duration, a status and JSON itself. Whatever the shape, the same facts must be read from it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Final

from cortex_autolearn.testing.dice import Dice
from cortex_autolearn.testing.facts import Facts

_CENTRAL = timezone(timedelta(hours=-6))

_STATUS_WORDS: Final[Mapping[str, tuple[tuple[str, float], ...]]] = {
    "completed": (("completed", 90), ("success", 5), ("done", 3), ("COMPLETED", 2)),
    "failed": (("failed", 80), ("error", 8), ("timeout", 8), ("zombie", 4)),
    "cancelled": (("cancelled", 70), ("canceled", 20), ("skipped", 10)),
}


@dataclass(frozen=True, slots=True)
class Hand:
    """How one writer writes the records of one task."""

    shape: str
    """``flat``, ``queue`` or ``report``."""
    times: str
    """``zulu``, ``offset`` (-0600), ``mixed`` (both in one record) or ``fraction`` (milliseconds)."""
    duration: str
    """``stated`` in seconds, in ``milliseconds`` (flat records only), or to be had from the ``times`` only."""
    pretty: bool
    """Over many lines, as jq writes it."""
    ascii: bool
    """Whether other characters are escaped."""
    worker: str
    title: str
    """The task's short name, beside its full input."""
    priority: str
    blank: bool
    """Whether a missing output is written as empty text; else its field is left away."""

    @property
    def family(self) -> str:
        """Which series of bronze files this writer appends to."""
        return "workers" if self.shape == "report" else "tasks"


def draw_hand(dice: Dice, title: str) -> Hand:
    """Return a writer for one task."""
    shape = dice.weighted((("flat", 60), ("queue", 25), ("report", 15)))
    return Hand(
        shape=shape,
        times=dice.weighted((("zulu", 45), ("offset", 20), ("mixed", 15), ("fraction", 20))),
        duration=dice.weighted((("stated", 75), ("times", 15), ("milliseconds", 10 if shape == "flat" else 0))),
        pretty=dice.chance(0.9 if shape == "queue" else 0.1),
        ascii=dice.chance(0.3),
        worker=f"worker-{dice.pick(('scan', 'implementation', 'analysis', 'review'))}-{dice.between(1, 240):03d}",
        title=title,
        priority=dice.weighted((("medium", 6), ("high", 3), ("low", 1))),
        blank=dice.chance(0.5),
    )


def fields(dice: Dice, hand: Hand, facts: Facts) -> dict[str, object]:
    """Return the record's fields in the order in which they are written."""
    shaped = {"flat": _flat, "queue": _queue, "report": _report}[hand.shape](hand, facts)
    words = _STATUS_WORDS.get(facts.status)
    shaped["status"] = facts.status if words is None else dice.weighted(words)
    if facts.final:
        shaped["tokens_used"] = dice.between(900, 48_000)
        shaped["cost_usd"] = dice.between(800, 210_000) / 1_000_000
    if facts.updated_at is not None:
        shaped["updated_at"] = _time(hand, facts.updated_at)
    if facts.ingested_at is not None:
        shaped["layer"] = "bronze"
        shaped["ingested_at"] = _time(hand, facts.ingested_at)
    return shaped


def encode(hand: Hand, record: Mapping[str, object]) -> bytes:
    """Return ``record`` as JSON, without a line break at its end."""
    if hand.pretty:
        return json.dumps(record, ensure_ascii=hand.ascii, indent=2).encode()
    return json.dumps(record, ensure_ascii=hand.ascii, separators=(",", ":")).encode()


def _flat(hand: Hand, facts: Facts) -> dict[str, object]:
    record: dict[str, object] = {
        "task_id": facts.task_id,
        "master": facts.master,
        "task_type": facts.task_type,
        "input": facts.input,
        "status": None,
        "priority": hand.priority,
        "max_retries": 3,
    }
    metadata: dict[str, object] = {"worker": hand.worker}
    if facts.final:
        record |= _answer("output", facts, hand)
        record["error"] = facts.error
        record["retry_count"] = facts.retry_count
        if facts.duration_seconds is not None and hand.duration == "milliseconds":
            metadata["processing_time_ms"] = round(facts.duration_seconds * 1000)
    if facts.quality_score is not None:
        record["quality_score"] = facts.quality_score
    record |= _model(facts) | _times(hand, facts) | _duration(hand, facts)
    record["metadata"] = metadata
    return record


def _queue(hand: Hand, facts: Facts) -> dict[str, object]:
    record: dict[str, object] = {
        "id": facts.task_id,
        "title": hand.title,
        "type": facts.task_type,
        "description": facts.input,
        "priority": hand.priority,
        "status": None,
        "assigned_to": facts.master.removesuffix("-master"),
        "created_by": "task-dispatcher",
    }
    record |= _model(facts) | _times(hand, facts)
    if facts.final:
        answer = _answer("summary", facts, hand)
        if answer:
            record["result"] = answer
        if facts.error is not None:
            record["failure_reason"] = facts.error
        record["retries"] = facts.retry_count
    if facts.quality_score is not None:
        record["quality_metrics"] = {"quality_score": facts.quality_score, "judged_by": "review-board"}
    record |= _duration(hand, facts)
    record["context"] = {}
    return record


def _report(hand: Hand, facts: Facts) -> dict[str, object]:
    record: dict[str, object] = {
        "worker_id": hand.worker,
        "task_id": facts.task_id,
        "task_title": hand.title,
        "task_type": facts.task_type,
        "parent_master": facts.master.removesuffix("-master"),
        "context": {"task_description": facts.input, "branch": "main"},
        "status": None,
    }
    times = _times(hand, facts)
    summary = {key: times.pop(key) for key in ("started_at",) if key in times} | _duration(hand, facts)
    if "completed_at" in times:
        times["completion_time"] = times.pop("completed_at")
    record |= _model(facts) | times
    if summary:
        record["execution_summary"] = summary
    if facts.final:
        record |= _answer("work_summary", facts, hand)
        record["errors"] = [] if facts.error is None else [facts.error]
        record["attempts"] = facts.retry_count + 1
    if facts.quality_score is not None:
        record["quality_score"] = facts.quality_score
    return record


def _answer(name: str, facts: Facts, hand: Hand) -> dict[str, object]:
    if facts.output is not None:
        return {name: facts.output}
    return {name: ""} if hand.blank else {}


def _model(facts: Facts) -> dict[str, object]:
    return {} if facts.model is None else {"model": facts.model}


def _duration(hand: Hand, facts: Facts) -> dict[str, object]:
    if facts.duration_seconds is None or hand.duration != "stated":
        return {}
    whole = facts.duration_seconds.is_integer()
    return {"duration_seconds": int(facts.duration_seconds) if whole else facts.duration_seconds}


def _times(hand: Hand, facts: Facts) -> dict[str, object]:
    stated = {
        "created_at": facts.created_at,
        "started_at": facts.started_at,
        "completed_at": facts.completed_at,
    }
    central = hand.times == "mixed"  # the dispatcher's clock is local, the workers' is not
    return {
        name: _in_central(at) if central and name == "created_at" else _time(hand, at)
        for name, at in stated.items()
        if at is not None
    }


def _time(hand: Hand, at: datetime) -> str:
    if hand.times == "offset":
        return _in_central(at)
    if hand.times == "fraction":
        return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z"
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"


def _in_central(at: datetime) -> str:
    return f"{at.astimezone(_CENTRAL):%Y-%m-%dT%H:%M:%S%z}"
