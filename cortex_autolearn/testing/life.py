"""The life of one simulated task: the records that are written about it, and when each arrives in bronze."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cortex_autolearn.testing.dice import Dice
from cortex_autolearn.testing.facts import PLACEHOLDERS, Facts, Truth, Write, split_of, standing_record
from cortex_autolearn.testing.shapes import Hand, encode, fields
from cortex_autolearn.testing.work import Brief

LONGEST_LIFE = timedelta(days=3)
"""No record of a task arrives later than this after the task's creation."""


@dataclass(frozen=True, slots=True)
class Skill:
    """How well a model does the fleet's work."""

    model: str
    share: float
    """Its share of all tasks, by weight."""
    completes: float
    """How many of its tasks are completed, 0..1."""
    excels: float
    """How many of its scored answers reach 4 of 5, 0..1."""


_DECENT = 3.5
"""From which quality on an answer is a thorough one."""

SKILLS = (
    Skill("claude-sonnet-4-5", share=50, completes=0.92, excels=0.68),
    Skill("claude-haiku-4-5", share=35, completes=0.90, excels=0.58),
    Skill("claude-opus-4-5", share=15, completes=0.95, excels=0.78),
)


@dataclass(frozen=True, slots=True)
class Task:
    """A task as it comes in, before anything is known of its outcome."""

    task_id: str
    master: str
    brief: Brief
    hand: Hand
    created_at: datetime
    skill: Skill


@dataclass(frozen=True, slots=True)
class _Arrival:
    at: datetime
    file: str
    kind: str
    facts: Facts
    data: bytes


def live(dice: Dice, task: Task) -> list[Write]:
    """Return every write about ``task`` in order of arrival, duplicates and corrections included."""
    arrivals: list[_Arrival] = []
    told = _story(dice, task)
    for facts, happened_at in told:
        arrivals.append(_arrive(dice, task.hand, facts, happened_at))
    outcome = told[-1][0]
    if outcome.status == "completed" and outcome.started_at is not None and dice.chance(0.03):
        arrivals.append(_correct(dice, task, outcome, arrivals[-1].at))
    for arrival in list(arrivals):
        if dice.chance(0.03):
            again = arrival.at + timedelta(seconds=dice.between(60, 21_600))
            arrivals.append(replace(arrival, at=again, file=_file(task.hand, again), kind="duplicate"))

    arrivals.sort(key=lambda arrival: arrival.at)
    assert arrivals[-1].at < task.created_at + LONGEST_LIFE
    stands = standing_record((arrival.facts, arrival.file, place) for place, arrival in enumerate(arrivals))
    return [_write(arrival, stands) for arrival in arrivals]


def _story(dice: Dice, task: Task) -> list[tuple[Facts, datetime]]:
    """Return what is recorded about the task as it moves, each with the instant at which that is known."""
    pending = Facts(
        task_id=task.task_id,
        master=task.master,
        task_type=task.brief.task_type,
        input=task.brief.ask,
        status=dice.pick(("pending", "queued")),
        created_at=task.created_at,
        updated_at=task.created_at if dice.chance(0.3) else None,
    )
    wait_s = min(600, 1 + int(dice.lognormal(20, 1.0)))
    running = replace(
        pending,
        status=dice.pick(("running", "in_progress")),
        started_at=task.created_at + timedelta(seconds=wait_s),
        updated_at=None,
        model=task.skill.model if dice.chance(0.95) else None,
    )
    assert running.started_at is not None
    abandoned = dice.chance(0.008)
    told = []
    if abandoned or dice.chance(0.75):
        told.append((pending, task.created_at))
    if dice.chance(0.6):
        told.append((running, running.started_at))
    if abandoned:
        return told

    retries = dice.between(1, 3) if dice.chance(0.07) else 0
    if retries and dice.chance(0.5):  # the first attempt left a record of its own
        attempt = _fail(dice, task, _took(dice, task, running))
        assert attempt.completed_at is not None
        told.append((attempt, attempt.completed_at))
        running = replace(running, started_at=attempt.completed_at + timedelta(seconds=dice.between(20, 240)))
    outcome = replace(_finish(dice, task, running), retry_count=retries)
    known_at = outcome.completed_at or outcome.updated_at
    assert known_at is not None
    return [*told, (outcome, known_at)]


def _finish(dice: Dice, task: Task, running: Facts) -> Facts:
    if dice.chance(task.skill.completes):
        return _complete(dice, task, _took(dice, task, running))
    if dice.chance(0.75):
        return _fail(dice, task, _took(dice, task, running))
    error = "cancelled by the operator" if dice.chance(0.3) else None
    cancelled = replace(_took(dice, task, running), status="cancelled", error=error)
    if dice.chance(0.5):
        return cancelled
    # Never begun, as far as anyone wrote down.
    return replace(
        cancelled,
        started_at=None,
        completed_at=None,
        duration_seconds=None,
        updated_at=cancelled.completed_at,
    )


def _took(dice: Dice, task: Task, running: Facts) -> Facts:
    """Return the running task with its duration and end."""
    assert running.started_at is not None
    pace = dice.weighted((("usual", 91.5), ("trivial", 4.5), ("slow", 4.0)))
    if pace == "trivial":
        tenths = dice.between(10, 99)
    elif pace == "slow":
        tenths = dice.between(6_010, 36_000)
    else:
        tenths = min(36_000, max(10, round(10 * dice.lognormal(75, 0.8))))
    if task.hand.times != "fraction":
        tenths = max(10, tenths // 10 * 10)
    return replace(
        running,
        duration_seconds=tenths / 10,
        completed_at=running.started_at + timedelta(milliseconds=100 * tenths),
    )


def _complete(dice: Dice, task: Task, taken: Facts) -> Facts:
    quality: float | None = None
    if dice.chance(0.93):
        excellent = dice.chance(task.skill.excels)
        quality = dice.pick((4, 4, 4.2, 4.5, 4.5, 4.8, 5, 5) if excellent else (3.8, 3.5, 3, 3, 2.5, 2, 1))
    output: str | None = task.brief.good if quality is None or quality >= _DECENT else task.brief.poor
    if dice.chance(0.025):
        output = dice.pick((None, None, *PLACEHOLDERS))
    done = replace(
        taken,
        status="completed",
        output=output,
        quality_score=quality,
        error=f"after the answer: {task.brief.trouble}" if dice.chance(0.015) else None,
    )
    if dice.chance(0.006):  # a writer that notes the end only
        return replace(done, created_at=None, started_at=None, duration_seconds=None)
    return done


def _fail(dice: Dice, task: Task, taken: Facts) -> Facts:
    return replace(
        taken,
        status="failed",
        output=task.brief.poor if dice.chance(0.3) else None,
        quality_score=dice.pick((1, 1.5, 2)) if dice.chance(0.4) else None,
        error=task.brief.trouble,
    )


def _correct(dice: Dice, task: Task, outcome: Facts, known_at: datetime) -> _Arrival:
    """Return a later record that changes what came of the task, or confirms it."""
    at = known_at + timedelta(seconds=dice.between(1_800, 90_000))
    verdict = dice.weighted((("reverted", 60), ("marked down", 20), ("confirmed", 20)))
    if verdict == "reverted":
        changed = replace(outcome, status="failed", error=f"reverted after review: {task.brief.trouble}")
    else:
        changed = replace(outcome, quality_score=2 if verdict == "marked down" else 5)
    hand = task.hand
    if dice.chance(0.7):  # else the end stays where it was, and the later place in the files decides
        changed = replace(changed, completed_at=at.replace(microsecond=0))
        hand = replace(hand, duration="stated")
    return _Arrival(at, _file(hand, at), "correction", changed, _line(dice, hand, changed))


def _arrive(dice: Dice, hand: Hand, facts: Facts, happened_at: datetime) -> _Arrival:
    on_time = happened_at + timedelta(milliseconds=dice.between(200, 4_000))
    late = facts.final and dice.chance(0.03)
    at = on_time + timedelta(seconds=dice.between(72_000, 108_000)) if late else on_time
    if dice.chance(0.15):
        facts = replace(facts, ingested_at=at.replace(microsecond=0))
    # A late record joins the others of its day, or those of the day on which it turns up.
    file = _file(hand, on_time if late and dice.chance(0.5) else at)
    return _Arrival(at, file, "late" if late else "record", facts, _line(dice, hand, facts))


def _line(dice: Dice, hand: Hand, facts: Facts) -> bytes:
    return encode(hand, fields(dice, hand, facts)) + b"\n"


def _file(hand: Hand, at: datetime) -> str:
    return f"{hand.family}-{at:%Y%m%d}.jsonl"


def _write(arrival: _Arrival, stands: Facts) -> Write:
    task_id = arrival.facts.task_id
    truth = Truth(arrival.kind, task_id, stands.high_quality, split_of(task_id), (arrival.facts,))
    return Write(arrival.at, arrival.file, arrival.data, truth)
