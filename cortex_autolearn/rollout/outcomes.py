"""What a silver record, or a line of a results file, means for a test: an outcome of which variant, or none, and why.

The rules are those of FORMATS, "A/B test", and DECISION, "Unit and outcomes". A task belongs to the variant that it was
assigned to, whoever answered it. Reading files is ``intake``'s business, what the outcomes amount to ``evidence``'s.
"""

from __future__ import annotations

from datetime import UTC
from math import nan
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from cortex_autolearn import assignment
from cortex_autolearn.canonical.values import final_status
from cortex_autolearn.model import instants
from cortex_autolearn.model.records import CANCELLED, COMPLETED
from cortex_autolearn.model.rollout import Outcome, score_or_none, seconds_or_none

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cortex_autolearn.model.experiments import Experiment
    from cortex_autolearn.model.routing import Variant

FOREIGN_EXPERIMENT: Final = "of another experiment"
FOREIGN_TEST: Final = "of another test"
UNKNOWN_VARIANT: Final = "unknown variant"
NO_TASK: Final = "no task_id"
NOT_FINAL: Final = "status is not final"
NO_SCORE: Final = "quality_score is no score from 1 to 5"
NO_TIME: Final = "duration_seconds is no duration"
NO_INSTANT: Final = "timestamp is unreadable"

_encode: Final = msgspec.json.Encoder().encode


class Record(NamedTuple):
    """A silver record of the test's master; instants in microseconds, ``quality`` is the score that counts."""

    task_id: str
    final: bool
    status: str | None
    created_us: int | None = None
    completed_us: int | None = None
    quality: float | None = None
    own_quality: float | None = None
    duration_s: float | None = None
    cost_usd: float | None = None
    variant: str | None = None
    model: str | None = None
    experiment: str | None = None
    fallback_from: str | None = None


class Assigned(NamedTuple):
    """A task of the test that has not ended."""

    task_id: str
    treated: bool
    at_us: int


class Finished(NamedTuple):
    """An outcome; ``own_quality`` is the score that it brought itself."""

    outcome: Outcome
    own_quality: float | None
    cost_usd: float | None = None

    def scored(self, by_people: float | None, by_judge: float | None) -> Finished:
        """Return it with the score that counts: a person's, else the one it brought, else the judge's."""
        counts = (one for one in (by_people, self.own_quality, by_judge) if one is not None)
        return self._replace(outcome=self.outcome._replace(quality=next(counts, None)))


class Unrouted(NamedTuple):
    """A task that the other variant's model answered, without a try of its own variant's."""

    task_id: str
    treated: bool
    at_us: int


class Void(NamedTuple):
    """A task without an outcome: it was cancelled, or (with the ``reason``, to be counted) is not this test's."""

    task_id: str
    reason: str = ""


class Refused(NamedTuple):
    """A line of a results file that is no outcome, and why: it goes to quarantine."""

    reason: str


Reading = Assigned | Finished | Unrouted | Void


def of_silver(record: Record, test: Experiment, now_us: int) -> Reading | None:
    """Return what a silver record of the test's master means for it; None where the task is not part of it.

    Arguments:
        record: the record.
        test: the test; where it has ended, what was created before its end still counts as its own.
        now_us: the instant at which it is read: nothing counts as later.
    """
    now_us = max(now_us, test.started_us)  # it is read after the test began, even by a clock that was set back since
    begun_us = min(now_us, _begun_us(record, now_us))
    if begun_us < test.started_us or is_paused(test, begun_us) or (test.ended_us or begun_us) < begun_us:
        return None
    if record.experiment not in {None, test.test_id}:
        return Void(record.task_id, FOREIGN_EXPERIMENT)
    own = letter(record.variant, test)
    if record.variant is not None and own is None:
        return Void(record.task_id, UNKNOWN_VARIANT)
    # Who says that it went to the champion may have answered what the challenger was meant to.
    arm = "b" if own == "b" else assignment.variant(record.task_id, test.percentage_a)
    if not record.final:
        return Assigned(record.task_id, arm == test.treated, begun_us)
    return Void(record.task_id) if record.status == CANCELLED else _ended(record, test, arm, begun_us, now_us)


def _ended(record: Record, test: Experiment, arm: Variant, begun_us: int, now_us: int) -> Finished | Unrouted:
    """Return what the end of a task means that was assigned to ``arm``."""
    own, answered = letter(record.variant, test), _version(record.model, test)
    tried = letter(record.fallback_from, test) == arm
    rescued = tried or (own == arm and answered not in {None, arm})
    if not rescued and (own not in {None, arm} or answered not in {None, arm}):
        return Unrouted(record.task_id, arm == test.treated, begun_us)
    outcome = Outcome(
        record.task_id,
        arm == test.treated,
        probability(test),
        begun_us,
        now_us if record.completed_us is None else min(now_us, record.completed_us),
        record.status == COMPLETED and not rescued,
        score_or_none(record.quality),
        seconds_or_none(record.duration_s),
    )
    return Finished(outcome, score_or_none(record.own_quality), record.cost_usd)


def of_results(fields: Mapping[str, object], test: Experiment, now_us: int) -> Finished | Void | Refused:
    """Return what an object of the test's results file means for it.

    Arguments:
        fields: the object.
        test: the test.
        now_us: the instant at which it is read.
    """
    task_id, status = _text(fields.get("task_id")), final_status(_text(fields.get("status")) or "")
    written = fields.get("variant")
    arm = letter(written, test) if isinstance(written, str) else None
    reason = {
        FOREIGN_TEST: fields.get("test_id") not in (None, test.test_id),
        NO_TASK: not task_id,
        UNKNOWN_VARIANT: arm is None,
        NOT_FINAL: status is None,
    }
    wrong = next((name for name, holds in reason.items() if holds), None)
    measured = _measured(fields, now_us) if wrong is None else Refused(wrong)
    if isinstance(measured, Refused):
        return measured
    assert task_id
    quality, duration_s, at_us = measured
    begun_us = max(test.started_us, at_us - round((duration_s or 0) * instants.SECOND_US))
    if status == CANCELLED or is_paused(test, begun_us):
        return Void(task_id)
    completed, treated = status == COMPLETED, arm == test.treated
    outcome = Outcome(
        task_id, treated, probability(test), begun_us, at_us, completed, quality, duration_s, from_results=True
    )
    return Finished(outcome, quality)


def probability(test: Experiment) -> float:
    """Return how likely a task is to go to the model on trial."""
    return (test.percentage_a if test.treated == "a" else 100 - test.percentage_a) / 100


def is_paused(test: Experiment, at_us: int) -> bool:
    """Tell whether all tasks went to the champion at an instant."""
    return any(one.from_us <= at_us and (one.until_us is None or at_us < one.until_us) for one in test.pauses)


def letter(written: str | None, test: Experiment) -> Variant | None:
    """Return the variant that is meant, by its letter or its version; None where it is neither's."""
    if written is None:
        return None
    match written.strip().lower():
        case "a":
            return "a"
        case "b":
            return "b"
        case _:
            return _version(written, test)


def _version(written: str | None, test: Experiment) -> Variant | None:
    if written == test.a:
        return "a"
    return "b" if written == test.b else None


def _begun_us(record: Record, now_us: int) -> int:
    if record.created_us is not None:
        return record.created_us
    return now_us if record.completed_us is None else record.completed_us


def _measured(fields: Mapping[str, object], now_us: int) -> tuple[float | None, float | None, int] | Refused:
    """Return score, seconds and instant of a line, each None (or now) where it has none; or what is wrong with one."""
    quality = _number(fields.get("quality_score"))
    duration_s = _number(fields.get("duration_seconds"))
    if quality and score_or_none(quality) is None:
        return Refused(NO_SCORE)
    if duration_s and seconds_or_none(duration_s) is None:
        return Refused(NO_TIME)
    at_us = now_us
    if fields.get("timestamp") is not None:
        try:
            moment = instants.decode(_encode(fields["timestamp"]))
        except msgspec.DecodeError:
            return Refused(NO_INSTANT)
        at_us = min(now_us, instants.to_us(moment if moment.tzinfo else moment.replace(tzinfo=UTC)))
    return quality or None, duration_s, at_us


def _number(value: object) -> float | None:
    """Return a number, None for nothing, and NaN, which is neither score nor duration, for anything else."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return nan
    try:
        return float(value)
    except OverflowError:  # an integer of JSON's may have any length
        return nan


def _text(value: object) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) else None
